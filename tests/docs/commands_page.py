"""docs/commands.md, made from the command line itself. ``make docs`` writes it, and a test compares."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.command_tree import tree

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"

_OWNER = "id of the user in Immich"
_FILE = {
    "id": "its number",
    "user": "e-mail address",
    "owner": _OWNER,
    "path": "where it was, below the user's folder",
    "location": "where it is, below `.immich-dbsync/quarantine`",
    "size": "bytes",
    "since": "when it came there",
    "asset": "`trashed`, `active`, `deleted` (being deleted), `gone` (for good), or null: unknown to Immich",
    "superseded": "whether its picture came back another way, so that it is not put back",
    "purged_after": "when it may be deleted by itself; null while its asset is not gone",
}
_HOLD = {
    "id": "its number",
    "user": "e-mail address",
    "owner": _OWNER,
    "direction": "`folder`: assets would be trashed; `immich`: files would leave the folder",
    "reason": "why it waits",
    "created_at": "when it began",
    "decision": "`waiting`, `approved` or `rejected`",
    "decided_at": "when; null while it waits",
    "files": "how many",
}
_PAUSE = {
    "user": "e-mail address",
    "id": _OWNER,
    "paused": "whether they are paused now",
    "changed": "whether they were not before",
    "service": "whether a service that runs has followed",
}


def _triggers(changed: str) -> dict[str, str]:
    return {
        "ok": "whether nothing differs",
        "differences": "what differs from what install makes, in sentences",
        "changed": changed,
        "warnings": "what else is worth knowing",
    }


_TALLY = {
    "files": "how many files it found",
    "new": "files that were not known",
    "changed": "files that are not as they were recorded",
    "gone": "files that are recorded and not there",
    "unreadable": "files and folders that could not be looked at",
    "left_alone": "what is never synced: reason to number",
}
_SUMMARY = {
    "files": "how many files the first scan found; `summary` is null until all of them are done",
    "left_alone": "what was left alone: reason to number",
    "*": "besides, of what was done, `upload` say: how often",
}

SHAPES: dict[str, dict[str, Any]] = {
    "status": {
        "problems": "what is wrong with more than one user, in sentences",
        "owners": [
            {
                "owner": _OWNER,
                "email": "e-mail address",
                "enabled": "whether what happens to their assets is noted",
                "active": "whether Immich has them as active",
                "running": "whether a service syncs them now",
                "paused": "whether a person paused them",
                "problems": "what needs somebody, in sentences",
                "synced": "paths tied to an asset",
                "waiting": "paths still to be uploaded",
                "refused": "files that Immich does not take",
                "damaged": "files whose bytes changed without a trace of a write",
                "holds": "holds that wait for a person",
                "quarantined": "files in quarantine",
                "events": "what the triggers wrote and is not worked off",
                "undecided": "files left alone: reason to number",
                "first_scan_at": "when the first scan ended; null before",
                "last_scan_at": "when the last ended; null before, and then `last_scan` is null, too",
                "last_scan": _TALLY,
                "summary": _SUMMARY,
            }
        ],
    },
    "doctor": {
        "ok": "whether nothing needs to be mended",
        "findings": [
            {
                "level": "`ok`, `note` or `wrong`",
                "what": "what was looked at",
                "found": "what was found",
                "why": "why it matters",
                "mend": "how to mend it; empty where nothing has to be done",
            }
        ],
    },
    "resync": {
        "users": [
            {
                "user": "e-mail address",
                "files": "files that were compared",
                "done": "what was done: action to number",
                "left": "files left alone: reason to number",
                "damaged": "paths of damaged files, at most a thousand",
                "damaged_count": "how many they are",
                "waiting": "why what needs Immich waits; null where it answers",
            }
        ],
        "left_out": [{"user": "e-mail address", "why": "paused, or a folder that can't be compared"}],
    },
    "resync --dry-run": {
        "planned": [
            {"user": "e-mail address", "action": "what would be done", "path": "to which file", "why": "and why"}
        ],
        "totals": "action to number",
        "files": "files that were compared",
        "left_out": [{"user": "e-mail address", "why": "a folder that can't be compared"}],
        "paused": "e-mail addresses of those for whom nothing is done before they are resumed",
    },
    "holds list": {"holds": [_HOLD]},
    "holds approve": {"hold": _HOLD},
    "holds reject": {"hold": _HOLD},
    "holds show": {
        "hold": _HOLD,
        "files": [{"path": "below the user's folder", "size": "bytes", "asset": "its id in Immich"}],
    },
    "quarantine list": {"files": [_FILE]},
    "quarantine restore": {
        "restored": [{"id": "its number", "user": "e-mail address", "path": "where it is now"}],
        "left": [_FILE],
    },
    "quarantine purge": {
        "purged": [{"id": "its number", "user": "e-mail address", "path": "where it was"}],
        "left": [_FILE],
    },
    "history": {
        "history": [
            {
                "at": "when",
                "user": "e-mail address",
                "owner": _OWNER,
                "action": "what was done",
                "path": "to which file; null where it was an asset alone",
                "asset": "its id in Immich; null where there was none",
                "why": "in words",
            }
        ]
    },
    "users list": {
        "users": [
            {
                "id": _OWNER,
                "email": "e-mail address",
                "name": "as Immich has it",
                "state": "`synced` by a service, `set up` where none runs for them, or what is missing",
                "folder": "its path",
                "has_folder": "whether it is there",
                "has_key": "whether there is an API key of theirs",
                "paused": "whether a person paused them",
                "running": "whether a service syncs them now",
            }
        ]
    },
    "users add": {
        "user": "e-mail address",
        "id": _OWNER,
        "folder": {
            "path": "theirs",
            "made": "whether it was made now",
            "owner": "user and group that it belongs to",
            "mode": "in octal",
            "mend": "the command that makes it what was asked for, where it was there before; empty where it is that",
        },
        "key": "where the API key comes from",
        "replaced": "API keys of ours that were deleted in Immich, because this one took their place",
        "others": "API keys that `users add` made for them before, which are neither in the file nor set",
        "lacking": "permissions that it lacks",
        "resumed": "whether they were paused, and are not any more",
        "service": "whether a service that runs has followed",
    },
    "users remove": {
        "user": "e-mail address",
        "id": _OWNER,
        "folder": "theirs, which stays",
        "synced": "files that were synced",
        "quarantined": "files in quarantine, which stay",
        "keys_taken_out": "API keys taken out of the file",
        "keys_deleted": "and deleted in Immich",
    },
    "users pause": _PAUSE,
    "users resume": _PAUSE,
    "config show": {
        "file": "the settings file; null where there is none",
        "settings": [{"name": "as in the file", "value": "null where it is not set", "source": "where it comes from"}],
        "problems": "what is missing or makes no sense, in sentences",
    },
    "triggers install": _triggers("what was wrong before and is mended, in sentences; empty where nothing was"),
    "triggers verify": _triggers("nothing: it changes nothing"),
    "triggers remove": _triggers("what was removed"),
}
"""What each command prints with ``--json``, beside ``version``: keys, and what they hold. A list has one item."""

_HEAD = """# Commands

This page is generated from the commands themselves by `make docs`.

On a terminal there are tables, or lines of key and value where a table has no room; in a pipe there are tab-separated
lines without a heading. What is said beside them goes to standard error. With `--json` there is one JSON object on
standard output. Its `version` is 1 until a key changes its meaning or goes; keys may be added. Times are ISO 8601 with
an offset, sizes bytes. Where a command fails there is one sentence on standard error and nothing on standard output,
and the exit code is one of [those](../README.md#exit-codes).
"""


def page() -> str:
    """The text of the page."""
    return "\n".join([_HEAD, *(line for name, command in tree().items() for line in _command(name, command))])


def _command(name: str, command: Any) -> Iterator[str]:
    told, _, example = " ".join((command.help or "").split()).partition("Example: ")
    yield f"## {name}\n\n{told.strip()}\n\n```sh\n{example.strip()}\n```\n"
    rows = [row for each in command.params if (row := _parameter(each))]
    if rows:
        yield "| | |\n| --- | --- |\n" + "\n".join(rows) + "\n"
    for shape in (shape for shape in SHAPES if shape == name or shape.startswith(f"{name} --")):
        words = " ".join([*shape.split()[len(name.split()) :], "--json"])
        yield f"With `{words}`:\n\n| key | what |\n| --- | --- |\n" + "\n".join(_keys(SHAPES[shape], "")) + "\n"


def _parameter(parameter: Any) -> str:
    if getattr(parameter, "hidden", False):
        return ""
    is_option = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if is_option else parameter.name.upper()
    return f"| `{name}` | {re.sub(r'[|]', ' ', parameter.help or '')} |"


def _keys(shape: dict[str, Any], above: str) -> Iterator[str]:
    for key, what in shape.items():
        if isinstance(what, str):
            yield f"| `{above}{key}` | {what} |"
        elif isinstance(what, dict):
            yield from _keys(what, f"{above}{key}.")
        else:
            yield from _keys(what[0], f"{above}{key}[].")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
