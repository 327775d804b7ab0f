import pytest

from immich_dbsync.immich.media_types import IMAGE, ONLY_3, SIDECAR, VIDEO, extension, is_media, is_sidecar


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        (b"a.jpg", True),
        (b"A.JPG", True),
        (b"a.b.HeIc", True),
        (b"a.mp4", True),
        (b"a.mpo", True),
        (b"folder.d/a.mov", True),
        (b"\xff\xfe.jpg", True),
        (b"..jpg", True),
        (b"a.xmp", False),
        (b"a.txt", False),
        (b"a.jpg.part", False),
        (b"a.", False),
        (b"a", False),
        (b"", False),
        (b".jpg", False),
        (b"a.jpg/b", False),
        (b"a.jp\xc9g", False),
        (b"jpg", False),
    ],
)
def test_a_file_is_media_by_its_extension_alone(name: bytes, taken: bool) -> None:
    assert is_media(name) is taken


@pytest.mark.parametrize("name", [b"a.xmp", b"a.jpg.XMP"])
def test_a_sidecar_is_no_media(name: bytes) -> None:
    assert is_sidecar(name)
    assert not is_media(name)


def test_a_media_file_is_no_sidecar() -> None:
    assert not is_sidecar(b"a.jpg")
    assert not is_sidecar(b".xmp")


def test_the_sets_are_apart_and_hold_extensions_as_extension_gives_them() -> None:
    assert not IMAGE & VIDEO
    assert not (IMAGE | VIDEO) & SIDECAR
    assert ONLY_3 < IMAGE
    for found in IMAGE | VIDEO | SIDECAR:
        assert extension(b"a" + found.upper().encode()) == found


def test_the_sets_are_as_large_as_the_servers_answers() -> None:
    assert (len(IMAGE), len(VIDEO), len(SIDECAR)) == (48, 20, 1)
