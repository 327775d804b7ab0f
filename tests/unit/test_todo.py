"""When a path that failed is tried again."""

from types import SimpleNamespace

import pytest

from immich_dbsync.model import RelPath
from immich_dbsync.service import todo
from immich_dbsync.service.todo import RETRY, Todo

PATH = RelPath(b"a.jpg")


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(todo, "time", SimpleNamespace(monotonic=lambda: 0.0))


def waits(paths: Todo, *, at_least: float = 0.0) -> float:
    """For how long the path is left alone when it fails once more, in seconds."""
    paths.retry([PATH], at_least=at_least)
    due = paths.agenda.next_due()
    assert due is not None
    assert paths.agenda.take(due, 9) == [PATH]
    return due


def test_later_each_time_and_not_before_the_server_said() -> None:
    """One file that is always answered with a time to come again would else keep all others waiting for ever."""
    paths = Todo()
    first = waits(paths, at_least=10.0)
    assert first == 10.0
    last = [waits(paths, at_least=10.0) for _ in range(12)][-1]
    assert RETRY.most / 2 <= last <= RETRY.most


def test_what_succeeded_or_changed_begins_anew() -> None:
    paths = Todo()
    for _ in range(12):
        waits(paths)
    paths.forget_failures([PATH])
    assert waits(paths) <= RETRY.first
