"""The fenced blocks of README and docs, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
OURS = ("immich-dbsync", "immich-distribution.dbsync")

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_BETWEEN = {"|", "&&", ";", "||"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: on which page, from which line on, in which language, and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def lines(self) -> list[str]:
        """A shell's lines, those that go on in the next one put together, without comments."""
        joined = self.text.replace("\\\n", " ")
        return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[2], dedent(match[3]))
        for match in _FENCE.finditer(text)
    ]


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command on a line, without what it is redirected to."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in _BETWEEN:
            yield words
            words = []
        else:
            words.append(word)
    if words:
        yield words[: next((n for n, word in enumerate(words) if word in {">", ">>", "<"}), None)]
