"""What the program may say to an administrator, read from its source: for the page that has to explain it."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "immich_dbsync"
_FEW, _MANY = 2, 8  # words of a phrase: below, it is told by what stands around it; above, by its beginning


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _phrases(node: ast.AST, within: ast.AST) -> Iterator[str]:
    """The longest run of fixed words in each sentence that this expression may be."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            fixed = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
            yield max(fixed, key=len, default="")
        case ast.IfExp(body=body, orelse=other):
            yield from _phrases(body, within)
            yield from _phrases(other, within)
        case ast.BinOp(left=left):
            yield from _phrases(left, within)
        case ast.Name(id=name):
            for each in ast.walk(within):
                if isinstance(each, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in each.targets):
                    yield from _phrases(each.value, within)


def _calls(function: ast.AST) -> Iterator[tuple[str, list[ast.expr]]]:
    """Each call in a function: its name, or that of the method, and its arguments."""
    for call in ast.walk(function):
        match call:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments) if arguments:
                yield name, arguments


def _told(paths: Iterable[Path], calls: Mapping[str, int], functions: Collection[str] | None = None) -> set[str]:
    """The phrases in the argument of this number of these calls, in these functions (None: in all)."""
    found: set[str] = set()
    for function in (each for path in paths for each in _functions(path)):
        if functions is None or function.name in functions:
            for name, arguments in _calls(function):
                if name in calls:
                    found |= _clean(_phrases(arguments[calls[name]], function))
    return found


def _returned(paths: Iterable[Path], functions: Collection[str]) -> set[str]:
    """The phrases in what these functions return."""
    found: set[str] = set()
    for function in (each for path in paths for each in _functions(path) if each.name in functions):
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                found |= _clean(_phrases(node.value, function))
    return found


def _clean(phrases: Iterable[str]) -> set[str]:
    """Their beginnings, as far as the first sentence goes."""
    found = set()
    for phrase in phrases:
        words = " ".join(phrase.split()).strip(" .,:;(").split()[:_MANY]
        end = next((n for n, word in enumerate(words, 1) if n > _FEW and word[-1] in ".;:"), None)
        if len(words) >= _FEW:
            found.add(" ".join(words[:end]).strip(".;:"))
    return found


def findings() -> set[str]:
    """Of each finding of `doctor` that is not well, its fixed words."""
    return _told(sorted((PACKAGE / "doctor").glob("*.py")), {"wrong": 1, "note": 1})


def problems() -> set[str]:
    """Of each problem that the service tells `status`, and of what `status` finds itself, their fixed words."""
    service = sorted((PACKAGE / "service").glob("*.py"))
    sentences = {"advice", "foreign_root", "_stfolders_lost", "_failed", "_sentence"}
    by_itself = _told(
        [PACKAGE / "cli" / "status_cmd.py", PACKAGE / "cli" / "overview.py"],
        {"append": 0, "Need": 0},
        {"own", "_not_running", "_waits", "look", "status"},
    )
    return _told(service, {"set_problem": -1, "_set_problem": -1}) | _returned(service, sentences) | by_itself
