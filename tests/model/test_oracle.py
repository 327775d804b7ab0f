"""The oracle accuses when it should, and only then."""

import pytest

from tests.model.oracle import ACTIVE, GONE, TRASHED, Oracle, Seen

CONTENT = b"c0 "


def _seen(status: str = GONE, *, there: bool = False, quarantined: bool = False) -> Seen:
    library = {} if status == GONE else {CONTENT: status}
    return Seen({"a.jpg": CONTENT} if there else {}, frozenset({CONTENT} if quarantined else ()), library)


@pytest.fixture
def oracle() -> Oracle:
    """A file and its asset, of which both sides agreed."""
    oracle = Oracle()
    oracle.next()
    oracle.put("a.jpg", CONTENT)
    oracle.observe(_seen(ACTIVE, there=True))
    oracle.quiet(_seen(ACTIVE, there=True))
    oracle.next()
    return oracle


def test_a_row_that_goes_after_its_deletion_for_good_though_it_was_seen_in_the_trash_between(oracle: Oracle) -> None:
    oracle.remove("a.jpg")
    oracle.next()
    oracle.web(CONTENT, GONE)
    oracle.observe(_seen(TRASHED))
    oracle.observe(_seen())
    oracle.quiet(_seen())


def test_a_row_that_goes_without_its_user(oracle: Oracle) -> None:
    oracle.remove("a.jpg")
    oracle.observe(_seen(TRASHED))
    with pytest.raises(AssertionError, match="by other than its user"):
        oracle.observe(_seen())


def test_a_row_that_goes_long_after_its_deletion_for_good(oracle: Oracle) -> None:
    oracle.web(CONTENT, GONE)
    oracle.observe(_seen(quarantined=True))
    oracle.quiet(_seen(quarantined=True))
    oracle.next()
    oracle.put("a.jpg", CONTENT)
    oracle.observe(_seen(ACTIVE, there=True, quarantined=True))
    oracle.quiet(_seen(ACTIVE, there=True, quarantined=True))
    with pytest.raises(AssertionError, match="by other than its user"):
        oracle.observe(_seen(there=True, quarantined=True))


def test_a_file_that_goes_though_its_asset_was_not_deleted(oracle: Oracle) -> None:
    with pytest.raises(AssertionError, match="its asset was last deleted at step 0"):
        oracle.observe(_seen(ACTIVE))


def test_a_file_that_goes_and_is_not_in_quarantine(oracle: Oracle) -> None:
    oracle.web(CONTENT, TRASHED)
    with pytest.raises(AssertionError, match="is not in quarantine"):
        oracle.observe(_seen(TRASHED))


def test_an_asset_that_is_trashed_though_its_file_is_there(oracle: Oracle) -> None:
    with pytest.raises(AssertionError, match="no file of it left the folder"):
        oracle.observe(_seen(TRASHED, there=True))


def test_a_file_that_comes_from_nowhere(oracle: Oracle) -> None:
    oracle.web(CONTENT, TRASHED)
    oracle.observe(_seen(TRASHED, quarantined=True))
    with pytest.raises(AssertionError, match="nobody restored its asset"):
        oracle.observe(_seen(TRASHED, there=True))


@pytest.mark.parametrize("status", [TRASHED, GONE])
def test_two_sides_that_do_not_agree_when_all_is_quiet(oracle: Oracle, status: str) -> None:
    oracle.web(CONTENT, status)
    with pytest.raises(AssertionError, match="it is in the folder only"):
        oracle.quiet(_seen(status, there=True))


def test_a_content_that_is_nowhere(oracle: Oracle) -> None:
    oracle.remove("a.jpg")
    oracle.web(CONTENT, TRASHED)
    oracle.observe(_seen(TRASHED))
    oracle.library.clear()
    with pytest.raises(AssertionError, match="nowhere"):
        oracle.observe(_seen())


def test_an_asset_that_stays_though_its_last_file_went(oracle: Oracle) -> None:
    oracle.remove("a.jpg")
    with pytest.raises(AssertionError, match="only the folder changed"):
        oracle.quiet(_seen(ACTIVE))


def test_an_asset_of_whose_deletion_a_person_was_asked_and_to_whose_path_another_file_came(oracle: Oracle) -> None:
    oracle.remove("a.jpg")
    oracle.observe(Seen({}, frozenset(), {CONTENT: ACTIVE}, frozenset({CONTENT}), {CONTENT: 1}))
    oracle.put("a.jpg", b"c1 ")
    there = Seen({"a.jpg": b"c1 "}, frozenset(), {CONTENT: ACTIVE, b"c1 ": ACTIVE}, frozenset(), {CONTENT: 1})
    oracle.observe(there)
    oracle.quiet(there)
    oracle.next()
    with pytest.raises(AssertionError, match="nothing was done to it"):
        oracle.quiet(Seen(there.files, frozenset(), {CONTENT: TRASHED, b"c1 ": ACTIVE}, frozenset(), {CONTENT: 1}))


def test_a_deleted_picture_waits_at_a_path_that_a_person_is_asked_about_and_nowhere_else(oracle: Oracle) -> None:
    other = b"c1 "
    oracle.remove("a.jpg")
    oracle.put("a.jpg", other)
    oracle.web(other, ACTIVE)
    oracle.next()
    oracle.web(other, TRASHED)
    library, held = {CONTENT: ACTIVE, other: TRASHED}, frozenset({CONTENT})
    oracle.observe(Seen({"a.jpg": other}, frozenset(), library, held, {CONTENT: 1}, frozenset({"a.jpg"})))
    oracle.quiet(Seen({"a.jpg": other}, frozenset(), library, held, {CONTENT: 1}, frozenset({"a.jpg"})))
    oracle.next()
    with pytest.raises(AssertionError, match="it is in the folder only"):
        oracle.quiet(Seen({"a.jpg": other}, frozenset(), library, held, {CONTENT: 1}, frozenset({"b.jpg"})))
