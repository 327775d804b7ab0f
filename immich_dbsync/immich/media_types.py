"""The file types that Immich takes, by extension, as ``GET /api/server/media-types`` of 2.7.5 and 3.1.0 answers.

The sets are the union of both. They differ in ``.mpo`` alone, which only 3.x takes: a 2.x server refuses such a file
with 400 ``Unsupported file type``.
"""

# fmt: off
IMAGE = frozenset({
    ".3fr", ".ari", ".arw", ".avif", ".bmp", ".cap", ".cin", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff",
    ".gif", ".heic", ".heif", ".hif", ".iiq", ".insp", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl", ".k25", ".kdc",
    ".mpo", ".mrw", ".nef", ".nrw", ".orf", ".ori", ".pef", ".png", ".psd", ".raf", ".raw", ".rw2", ".rwl", ".sr2",
    ".srf", ".srw", ".svg", ".tif", ".tiff", ".webp", ".x3f",
})
"""Extensions of images, with their dot, in lower case."""

VIDEO = frozenset({
    ".3gp", ".3gpp", ".avi", ".flv", ".insv", ".m2t", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg",
    ".mpg", ".mts", ".mxf", ".ts", ".vob", ".webm", ".wmv",
})
"""Extensions of videos, with their dot, in lower case."""

# fmt: on

SIDECAR = frozenset({".xmp"})
"""Extensions of sidecars, with their dot, in lower case."""

ONLY_3 = frozenset({".mpo"})
"""Extensions that 3.x takes and 2.x refuses."""


def extension(name: bytes) -> str:
    """What follows the last dot of a file's name, with the dot, in lower case; empty where there is none.

    A name that only begins with a dot has none, as ``.jpg``: so Node's ``path.extname`` has it, which Immich uses.
    """
    stem, dot, last = name.rpartition(b"/")[2].rpartition(b".")
    return (dot + last).decode("latin-1").lower() if stem else ""


def is_media(name: bytes) -> bool:
    """Whether Immich takes a file of that name as an image or a video; the name may be a path."""
    found = extension(name)
    return found in IMAGE or found in VIDEO


def is_sidecar(name: bytes) -> bool:
    """Whether Immich takes a file of that name as another file's sidecar; the name may be a path."""
    return extension(name) in SIDECAR
