"""Whose API keys are set, and so whose folders are to be synced."""

from collections.abc import Sequence
from dataclasses import dataclass

from immich_dbsync.immich.library import Library, Owner
from immich_dbsync.model import OwnerId


@dataclass(frozen=True, slots=True)
class Account:
    """An owner and the API key that acts for them."""

    owner: Owner
    key: str


async def accounts(library: Library, keys: Sequence[str]) -> tuple[list[Account], list[str]]:
    """Whose keys these are, each owner once; and a sentence for each key that can't be used."""
    found: dict[OwnerId, Account] = {}
    problems: list[str] = []
    for number, key in enumerate(keys, 1):
        owner = await library.owner_of_key(key)
        if owner is None:
            problems.append(
                f"API key {number} of {len(keys)} is not known to this Immich: make a new one in its account settings,"
                " or check that server and database belong together"
            )
        elif not owner.active:
            problems.append(f"API key {number} belongs to {owner.email}, who is deleted in Immich: take the key out")
        else:
            found.setdefault(owner.id, Account(owner, key))
    return list(found.values()), problems
