"""Which owner, and which part of their folder, a command is about."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from immich_dbsync.core.names import valid_path
from immich_dbsync.errors import KeyRefused, RootUnusable
from immich_dbsync.service.session import Account


def chosen(found: Sequence[Account], user: str) -> list[Account]:
    """The accounts of the user who is named by e-mail address or id, or all; raises KeyRefused for nobody's."""
    if not user:
        return [*found]
    matching = [account for account in found if user in {account.owner.email, str(account.owner.id)}]
    if not matching:
        emails = [account.owner.email for account in found]
        near = get_close_matches(user, emails, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise KeyRefused(f"No API key belongs to {user!r}.{hint} There are keys of: {', '.join(emails)}.")
    return matching


def placed(found: Sequence[Account], sync_root: Path, path: str) -> tuple[list[Account], bytes]:
    """Whose folder this path lies in, and where there: it is absolute, or relative to the one user's folder.

    Raises RootUnusable for a path that lies in nobody's folder, or might lie in several.
    """
    if not path:
        return [*found], b""
    if not Path(path).is_absolute():
        if len(found) > 1:
            raise RootUnusable(f"{path!r} may lie in several folders: name the user with --user, or the whole path.")
        return [*found], _below(path)
    for account in found:
        root = sync_root / str(account.owner.id)
        if Path(path).is_relative_to(root):
            inside = str(Path(path).relative_to(root))
            return [account], b"" if inside == "." else _below(inside)
    raise RootUnusable(f"{path!r} lies in no synced user's folder: they are below {str(sync_root)!r}.")


def _below(path: str) -> bytes:
    try:
        return valid_path(os.fsencode(path.strip("/")))
    except ValueError:
        raise RootUnusable(f"{path!r} is no path below a user's folder.") from None
