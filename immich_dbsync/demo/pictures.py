"""Small pictures, no two alike, made from a number."""

import colorsys
import struct
import zlib

_SIDE = 96  # pixels


def picture(number: int) -> bytes:
    """A valid PNG: two colours that depend on ``number`` melt into each other."""
    first, second = (colorsys.hsv_to_rgb((number * 0.618 + shift) % 1.0, 0.7, 0.95) for shift in (0.0, 0.3))
    diagonals = bytearray()  # a pixel's colour depends on x + y alone
    for distance in range(2 * _SIDE - 1):
        share = distance / (2 * _SIDE - 2)
        diagonals += bytes(int(255 * (a * (1 - share) + b * share)) for a, b in zip(first, second, strict=True))
    # Each row begins with 0: no filter.
    rows = b"".join(b"\0" + diagonals[3 * y : 3 * (y + _SIDE)] for y in range(_SIDE))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    comment = b"Comment\0picture %d" % number
    chunks = ((b"IHDR", header), (b"tEXt", comment), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
