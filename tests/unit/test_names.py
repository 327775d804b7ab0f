"""Which names are left alone, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immich_dbsync.core.names import MARKED, LeftAlone, NameRules, skip_directory, valid_path
from immich_dbsync.model import RelPath

EXCLUDE = ("Screenshots", "*/private/*", "secret*.jpg")
RULES = NameRules(frozenset({".jpg", ".heic", ".mp4"}), frozenset({".xmp"}), EXCLUDE)
STEMS = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & set(b"/\0"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (b"a/IMG.jpg", None),
        (b"IMG.JPG", None),
        (b"caf\xe9.Heic", None),
        (b"line\nbreak.mp4", None),
        (b".IMG.jpg", LeftAlone.HIDDEN),
        (b".jpg", LeftAlone.HIDDEN),
        (b".stversions/IMG.jpg", LeftAlone.HIDDEN),
        (b"a/.b/c/IMG.jpg", LeftAlone.HIDDEN),
        (b".trashed-1700000000-IMG.jpg", LeftAlone.HIDDEN),
        (b"a/.syncthing.IMG.jpg.tmp", LeftAlone.TEMPORARY),
        (b"~syncthing~IMG.jpg.tmp", LeftAlone.TEMPORARY),
        (b"IMG.jpg.part", LeftAlone.TEMPORARY),
        (b"IMG.jpg.crdownload", LeftAlone.TEMPORARY),
        (b"IMG.jpg.xmp", LeftAlone.SIDECAR),
        (b"notes.txt", LeftAlone.NOT_MEDIA),
        (b"jpg", LeftAlone.NOT_MEDIA),
        (b"IMG.", LeftAlone.NOT_MEDIA),
        (b"Screenshots/IMG.jpg", LeftAlone.EXCLUDED),
        (b"DCIM/Screenshots/a/IMG.jpg", LeftAlone.EXCLUDED),
        (b"a/private/b/IMG.jpg", LeftAlone.EXCLUDED),
        (b"a/secret 1.jpg", LeftAlone.EXCLUDED),
        (b"a/Secret 1.jpg", None),
    ],
)
def test_a_file_counts_or_not_for_one_reason(path: bytes, reason: LeftAlone | None) -> None:
    assert RULES.file(RelPath(path)) is reason


def test_an_exclude_glob_that_names_a_folder_may_end_in_a_slash() -> None:
    rules = NameRules(frozenset({".jpg"}), frozenset(), ("Screenshots/", "/"))
    assert rules.file(RelPath(b"a/Screenshots/b.jpg")) is LeftAlone.EXCLUDED
    assert rules.file(RelPath(b"a/b.jpg")) is None


@given(STEMS, st.sampled_from([b"", b".jpg", b".JPG"]))
def test_the_short_cut_of_the_walk_never_says_more_than_the_rules(stem: bytes, extension: bytes) -> None:
    rules = NameRules(frozenset({".jpg"}), frozenset())
    name = stem + extension
    if name[0] not in MARKED and name[name.rfind(b".") :].lower() in rules.plain:
        assert rules.file(RelPath(name)) is None


def test_only_dot_folders_are_skipped() -> None:
    assert skip_directory(b".stfolder") is LeftAlone.HIDDEN
    assert skip_directory(b"DCIM") is None


@pytest.mark.parametrize("raw", [b"", b"/a", b"a/", b"a//b", b".", b"a/.", b"..", b"a/../b", b"a\0b"])
def test_what_is_no_path_below_a_root_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a path"):
        valid_path(raw)


@pytest.mark.parametrize("raw", [b"a", b"-a/...", b"\xff\n/e\xcc\x81"])
def test_any_bytes_that_linux_allows_are_a_path(raw: bytes) -> None:
    assert valid_path(raw) == raw
