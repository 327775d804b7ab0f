"""How things are put into words everywhere."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], shown: Callable[[str], str] = str) -> str:
    """A sentence, with a space before it, that names the nearest of what is known; empty where nothing is near."""
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {shown(near[0])}?" if near else ""


def counted(count: int, one: str, many: str = "") -> str:
    """A number and its noun, as in "1 file", "2 files"; ``many`` where the plural takes more than an s."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
