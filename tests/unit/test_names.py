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


@given(
    st.lists(st.sampled_from([b"a", b"Screenshots", b"b"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["Screenshots", "a/b", "a*b", "*/a/*"]), min_size=1, max_size=2),
)
def test_what_was_found_of_a_folder_before_changes_nothing(folders: list[bytes], globs: list[str]) -> None:
    path = b"/".join(folders)
    fresh = NameRules(frozenset({".jpg"}), frozenset(), tuple(globs))
    for depth in range(1, len(folders) + 1):
        fresh.excluded_folder(b"/".join(folders[:depth]))
    every = [b"/".join(folders[:depth]) for depth in range(1, len(folders) + 1)]
    alone = any(NameRules(frozenset(), frozenset(), tuple(globs))._excluded(f.rpartition(b"/")[2], f) for f in every)
    assert fresh.excluded_folder(path) is alone


def test_of_files_thousands_of_folders_deep_each_folder_is_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = NameRules(frozenset({".jpg"}), frozenset(), ("*.sync-conflict-*", "Screenshots"))
    deep = b"/".join([b"d"] * 1900)
    asked: list[bytes] = []
    plain = NameRules._excluded

    def counted(self: NameRules, name: bytes, path: bytes) -> bool:
        asked.append(path)
        return plain(self, name, path)

    monkeypatch.setattr(NameRules, "_excluded", counted)
    for number in range(300):
        assert rules.file(RelPath(deep + b"/%d/x.jpg" % number)) is None
    assert len(asked) == 1900 + 2 * 300  # each folder, and each file once
