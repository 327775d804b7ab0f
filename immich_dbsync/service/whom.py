"""Which owner, and which part of their folder, a command is about."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from immich_dbsync.core.names import valid_path
from immich_dbsync.errors import NoSuchFile, NoSuchUser
from immich_dbsync.immich.library import Owner
from immich_dbsync.service.accounts import Account
from immich_dbsync.wording import did_you_mean

_TOLD = 10  # users named in a complaint


def find_owner(owners: Sequence[Owner], user: str) -> Owner:
    """The user who is named by e-mail address, id or name, in whatever case.

    Raises NoSuchUser, with the nearest one, for nobody's and for a name that several have.
    """
    found = _named(owners, user)
    if len(found) > 1:
        raise NoSuchUser(f"Several users are called {user!r}: name one by address: {_emails(found)}.")
    if not found:
        everybody = f" There are: {_emails(owners)}." if owners else " It has no users."
        raise NoSuchUser(f"Immich has no user {user!r}.{_hint(owners, user)}{everybody}")
    return found[0]


def chosen(found: Sequence[Account], user: str) -> list[Account]:
    """The accounts of the user who is named by e-mail address, id or name, or all; raises NoSuchUser for nobody's."""
    if not user:
        return [*found]
    owners = [account.owner for account in found]
    named = _named(owners, user)
    if not named:
        raise NoSuchUser(f"No API key belongs to {user!r}.{_hint(owners, user)} There are keys of: {_emails(owners)}.")
    return [account for account in found if account.owner in named]


def _named(owners: Sequence[Owner], user: str) -> list[Owner]:
    wanted = user.casefold()
    by_address = [owner for owner in owners if wanted in {owner.email.casefold(), str(owner.id)}]
    return by_address or [owner for owner in owners if wanted and wanted == owner.name.casefold()]


def _hint(owners: Sequence[Owner], user: str) -> str:
    """The nearest user, by whatever they were meant to be named."""
    names = _names(owners)
    return did_you_mean(user.casefold(), names, lambda near: names[near].email)


def _names(owners: Sequence[Owner]) -> dict[str, Owner]:
    """The users by all that they may be named by."""
    return {name.casefold(): owner for owner in owners for name in (owner.name, str(owner.id), owner.email) if name}


def _emails(owners: Sequence[Owner]) -> str:
    more = f" and {len(owners) - _TOLD} more" if len(owners) > _TOLD else ""
    return ", ".join(owner.email for owner in owners[:_TOLD]) + more


def placed(found: Sequence[Account], sync_root: Path, path: str) -> tuple[list[Account], bytes]:
    """Whose folder this path lies in, and where there: it is absolute, or relative to the one user's folder.

    Raises NoSuchFile for a path that lies in nobody's folder, or might lie in several.
    """
    if path and not Path(path).is_absolute() and len(found) > 1:
        raise NoSuchFile(f"{path!r} may lie in several folders: name the user with --user, or the whole path.")
    owners, inside = within([account.owner for account in found], sync_root, path)
    return [account for account in found if account.owner in owners], inside


def within(owners: Sequence[Owner], sync_root: Path, path: str) -> tuple[list[Owner], bytes]:
    """In whose folders this path may lie, and where there: it is absolute, or relative to each user's folder.

    Raises NoSuchFile for a path that lies in nobody's folder.
    """
    if not path:
        return [*owners], b""
    if not Path(path).is_absolute():
        return [*owners], _below(path)
    for owner in owners:
        root = sync_root / str(owner.id)
        if Path(path).is_relative_to(root):
            inside = str(Path(path).relative_to(root))
            return [owner], b"" if inside == "." else _below(inside)
    near = _nearest_folder(owners, sync_root, Path(path))
    raise NoSuchFile(f"{path!r} lies in no user's folder: they are below {str(sync_root)!r}.{near}")


def _nearest_folder(owners: Sequence[Owner], sync_root: Path, path: Path) -> str:
    """A hint at where an absolute path may have been meant to lie: the sync root or the user's id may be mistyped."""
    head, rest = path.parts[: len(sync_root.parts)], path.parts[len(sync_root.parts) :]
    # One by one: whole paths are alike when they have the same beginning, however little their ends are.
    alike = (
        typed == meant or did_you_mean(typed, [meant]) for typed, meant in zip(head, sync_root.parts, strict=False)
    )
    if len(head) < len(sync_root.parts) or not all(alike):
        return ""
    names = _names(owners)
    near = did_you_mean(
        rest[0].casefold() if rest else "", names, lambda near: str(sync_root.joinpath(str(names[near].id), *rest[1:]))
    )
    return near or (f" Did you mean {sync_root}?" if head != sync_root.parts else "")


def nearest(sync_root: Path, path: str, known: Iterable[tuple[Owner, str]]) -> str:
    """A hint at what is nearest to this path among what is known below the users' folders; written as the path is.

    ``sync_root`` matters for an absolute one only.
    """
    if not Path(path).is_absolute():
        return did_you_mean(path, {name for _, name in known})
    # What they have in common would make all of a user's paths alike.
    owner, *parts = Path(path).relative_to(sync_root).parts
    theirs = {name for who, name in known if str(who.id) == owner}
    return did_you_mean("/".join(parts), theirs, lambda near: str(sync_root / owner / near))


def _below(path: str) -> bytes:
    try:
        return valid_path(os.fsencode(path.strip("/")))
    except ValueError:
        raise NoSuchFile(f"{path!r} is no path below a user's folder.") from None
