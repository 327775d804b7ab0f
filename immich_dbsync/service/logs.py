"""Structured logs: readable on a terminal, JSON lines elsewhere; never a raw control character."""

import logging
import sys
from typing import Any, Literal

import structlog

from immich_dbsync.metrics import PROBLEMS

log = structlog.get_logger()


def _printable(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Show paths, which are bytes, as text: what is not UTF-8 or not printable is escaped."""
    for key, value in event.items():
        if isinstance(value, bytes):
            event[key] = printable(value)
        elif isinstance(value, str) and not value.isprintable():
            lines = value.split("\n") if key == "exception" else [value]  # a traceback keeps its lines
            event[key] = "\n".join(printable(line.encode("utf-8", "surrogatepass")) for line in lines)
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


class _Passed(logging.Handler):
    """Passes on what libraries log, so that it is a line like the others."""

    def emit(self, record: logging.LogRecord) -> None:
        log.error("library.failed", library=record.name, reason=record.getMessage(), exc_info=record.exc_info)


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
    logging.basicConfig(handlers=[_Passed()], level=logging.ERROR, force=True)
    # Its pool logs each connection that it could not open again, with a traceback; the session says what is wrong.
    logging.getLogger("asyncpg").addHandler(logging.NullHandler())
    logging.getLogger("asyncpg").propagate = False
