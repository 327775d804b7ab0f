"""The parts of an upload that are made without a server."""

import re
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immich_dbsync.immich.api import Upload, _file_name, _frame, _iso
from immich_dbsync.model import Sha1

NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: not set(name) & set(b"\0/"))
SHA1 = Sha1(bytes(range(20)))


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (b"IMG_1.jpg", "IMG_1.jpg"),
        ("Grüße 🌸.jpg".encode(), "Grüße 🌸.jpg"),
        (b'a"b.jpg', "a%22b.jpg"),
        (b"a\r\nb.jpg", "a%0D%0Ab.jpg"),
        (b"\x1b[31m\x7f\t.jpg", "%1B[31m%7F%09.jpg"),
        (b"100%.jpg", "100%.jpg"),
        (b"back\\slash;x=y.jpg", "back\\slash;x=y.jpg"),
        (b"\xff.jpg", "\N{REPLACEMENT CHARACTER}.jpg"),
    ],
)
def test_names_are_sent_as_browsers_send_them(name: bytes, sent: str) -> None:
    assert _file_name(name) == sent


@given(NAMES)
def test_no_name_ends_its_header(name: bytes) -> None:
    sent = _file_name(name)
    assert '"' not in sent
    assert not any(c < " " or c == "\x7f" for c in sent)
    sent.encode()


@given(name=NAMES, mtime_ns=st.integers(-(10**21), 10**21), size=st.integers(0, 10**13))
def test_every_frame_is_a_form_with_its_parts_in_order(name: bytes, mtime_ns: int, size: int) -> None:
    head, tail = _frame(Upload(name, size, mtime_ns, SHA1), "b0undary")
    parts = (head + b"DATA" + tail).split(b"--b0undary")
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    names = [re.search(rb'; name="(\w+)"', part)[1] for part in parts[1:-1]]  # type: ignore[index]
    assert names == [b"fileCreatedAt", b"fileModifiedAt", b"deviceAssetId", b"deviceId", b"assetData"]
    headers, _, body = parts[-2].lstrip(b"\r\n").partition(b"\r\n\r\n")
    assert body == b"DATA\r\n"
    assert BytesParser().parsebytes(headers + b"\r\n\r\n")["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("seconds", "sent"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (0.0015, "1970-01-01T00:00:00.001Z"),
        (-0.0005, "1969-12-31T23:59:59.999Z"),
        (-2_177_452_800, "1901-01-01T00:00:00.000Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        (253_402_300_800, "9999-12-31T23:59:59.999Z"),
        (-62_135_596_800, "0001-01-01T00:00:00.000Z"),
        (-62_135_596_801, "0001-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_iso_in_utc_with_milliseconds(seconds: float, sent: str) -> None:
    assert _iso(round(seconds * 1_000_000) * 1000) == sent


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_mtime_that_a_file_can_have_is_a_date(mtime_ns: int) -> None:
    sent = _iso(mtime_ns)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", sent)
    exact = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=mtime_ns // 1000)
    assert exact - datetime.fromisoformat(sent) < timedelta(milliseconds=1)
    assert datetime.fromisoformat(sent) <= exact


@given(st.integers(-(10**30), 10**30))
def test_a_time_that_no_date_can_hold_is_the_nearest_one(mtime_ns: int) -> None:
    assert len(_iso(mtime_ns)) == len("9999-12-31T23:59:59.999Z")
