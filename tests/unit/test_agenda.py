import heapq

from hypothesis import given
from hypothesis import strategies as st

from immich_dbsync.core.agenda import Agenda
from immich_dbsync.model import RelPath

PATHS = st.sampled_from([RelPath(bytes([letter])) for letter in b"abcdef"])
HINTS = st.lists(st.tuples(PATHS, st.integers(0, 20)), max_size=40)


def test_an_empty_agenda_has_nothing_due() -> None:
    agenda = Agenda()
    assert (len(agenda), agenda.next_due(), agenda.take(1e9, 10)) == (0, None, [])


def test_a_path_is_due_from_its_time_on_and_taken_once() -> None:
    agenda = Agenda()
    agenda.add([RelPath(b"a")], 5.0)
    assert agenda.take(4.999, 10) == []
    assert agenda.take(5.0, 10) == [b"a"]
    assert agenda.take(9.0, 10) == []
    assert agenda.next_due() is None


def test_the_earlier_time_stands() -> None:
    agenda = Agenda()
    agenda.add([RelPath(b"a")], 5.0)
    agenda.add([RelPath(b"a")], 2.0)
    agenda.add([RelPath(b"a")], 9.0)
    assert (len(agenda), agenda.next_due()) == (1, 2.0)
    assert agenda.take(2.0, 10) == [b"a"]
    assert agenda.take(99.0, 10) == []


def test_a_path_may_come_back_after_it_was_taken() -> None:
    agenda = Agenda()
    for due in (5.0, 3.0, 7.0):
        agenda.add([RelPath(b"a")], due)
        assert agenda.take(due, 1) == [b"a"]


@given(hints=HINTS, now=st.integers(0, 20), limit=st.integers(0, 10))
def test_takes_what_is_due_the_longest_due_first_and_keeps_the_rest(
    hints: list[tuple[RelPath, int]], now: int, limit: int
) -> None:
    agenda, model = Agenda(), dict[RelPath, int]()
    for path, due in hints:
        agenda.add([path], due)
        model[path] = min(due, model.get(path, due))
    assert len(agenda) == len(model)
    due_now = [path for path, due in model.items() if due <= now]
    assert sorted(agenda.due(now)) == sorted(due_now)
    taken = agenda.take(now, limit)
    assert len(taken) == len(set(taken)) == min(limit, len(due_now))
    assert [model[path] for path in taken] == heapq.nsmallest(limit, (model[path] for path in due_now))
    for path in taken:
        del model[path]
    assert len(agenda) == len(model)
    assert agenda.next_due() == min(model.values(), default=None)
    assert sorted(agenda.take(1_000, 1_000)) == sorted(model)
