"""Structured logs: readable on a terminal, JSON lines elsewhere; never a raw control character."""

import logging
import sys
from typing import Any, Literal

import structlog

from immich_dbsync.metrics import PROBLEMS


def _printable(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Show paths, which are bytes, as text: what is not UTF-8 or not printable is escaped."""
    for key, value in event.items():
        if isinstance(value, bytes):
            event[key] = printable(value)
        elif isinstance(value, str) and not value.isprintable():
            event[key] = printable(value.encode("utf-8", "surrogatepass"))
    return event


def _counted(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if event["level"] in {"warning", "error"}:
        PROBLEMS.labels(event["event"]).inc()
    return event


def printable(path: bytes) -> str:
    """A path for people: UTF-8 where it is that, every other byte and every control character escaped."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def configure(form: Literal["auto", "json", "console"], level: str) -> None:
    """Set up logging for the whole process; lines go to stderr."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _counted,
            structlog.processors.TimeStamper(fmt="iso", utc=not console),
            structlog.processors.format_exc_info,
            _printable,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
