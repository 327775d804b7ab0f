"""Access control lists, as setfacl(1) sets them and acl(5) keeps them."""

import os
import struct
from pathlib import Path

NAMES = ("system.posix_acl_access", "system.posix_acl_default")
_VERSION, _NOBODY = 2, 0xFFFFFFFF
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_READ_SEARCH, _ALL = 5, 7


def grant(path: Path, *users: int) -> None:
    """Give these users, by number, all rights to a file, or in a folder and in what will be made there."""
    entries = [(_OWNER, _ALL, _NOBODY)]
    entries += [(_USER, _ALL, user) for user in sorted(users)]
    entries += [(_GROUP, _READ_SEARCH, _NOBODY), (_MASK, _ALL, _NOBODY), (_OTHER, _READ_SEARCH, _NOBODY)]
    packed = struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    for name in NAMES if path.is_dir() else NAMES[:1]:
        os.setxattr(path, name, packed)


def lists(folder: Path) -> list[bytes]:
    """A folder's two lists."""
    return [os.getxattr(folder, name) for name in NAMES]
