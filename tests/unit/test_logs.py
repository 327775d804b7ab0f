import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immich_dbsync.service.logs import printable


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"IMG_1.jpg", "IMG_1.jpg"),
        ("Grüße aus Kōbe 🌸.jpg".encode(), "Grüße aus Kōbe 🌸.jpg"),
        (b"a\nb\r\t.jpg", "a\\nb\\r\\t.jpg"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"\x00\x7f", "\\x00\\x7f"),
        ("\u202egnp.exe".encode(), "\\u202egnp.exe"),
        ("\u0085\u2028".encode(), "\\x85\\u2028"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ],
)
def test_paths_for_people(path: bytes, shown: str) -> None:
    assert printable(path) == shown


@given(st.binary())
def test_whatever_a_name_is_it_is_shown_on_one_line(path: bytes) -> None:
    assert printable(path).isprintable()
    assert len(printable(path).splitlines()) <= 1
    printable(path).encode()  # no surrogates


@given(st.text().filter(str.isprintable))
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    assert printable(text.encode()) == text


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_log_line_is_one_line_whatever_is_in_it(form: str) -> None:
    program = f"""
from immich_dbsync.service import logs
import structlog
logs.configure({form!r}, "info")
structlog.get_logger().debug("not.shown")
structlog.get_logger().info("shown", path=b"a\\nb\\xff", reason="two\\nlines \\x1b[31m", other="\\udcff")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert ended.stdout == b""
    [line] = ended.stderr.decode().splitlines()
    if form == "json":
        event = json.loads(line)
        assert event["event"] == "shown"
        assert event["level"] == "info"
        assert event["path"] == "a\\nb\\xff"
        assert event["reason"] == "two\\nlines \\x1b[31m"
        assert event["timestamp"].endswith("Z")
    else:
        assert "a\\nb\\xff" in line
        assert "\x1b[31m" not in line.replace("\x1b[0m", "")


def test_what_a_library_logs_is_a_line_like_the_others() -> None:
    program = r"""
from immich_dbsync.service import logs
import logging
logs.configure("json", "info")
logging.getLogger("aiohttp.server").warning("not shown")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("aiohttp.server").exception("Error handling %s", "a\nb")
logging.getLogger("asyncpg.pool").error("not shown")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    [line] = ended.stderr.decode().splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["library"]) == ("library.failed", "error", "aiohttp.server")
    assert event["reason"] == "Error handling a\\nb"
    assert event["exception"].startswith("Traceback")
    assert event["exception"].splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_a_traceback_keeps_its_lines_and_nothing_in_it_is_raw() -> None:
    program = r"""
from immich_dbsync.service import logs
import structlog
logs.configure("console", "info")
try:
    raise ValueError("odd \x1b[31m name")
except ValueError as error:
    structlog.get_logger().error("owner.failed", exc_info=error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env={**os.environ, "NO_COLOR": "1"}
    )
    lines = ended.stderr.decode().splitlines()
    assert "Traceback (most recent call last):" in lines
    assert lines[-1] == "ValueError: odd \\x1b[31m name"
