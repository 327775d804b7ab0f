"""Does Immich's server answer, is it the one of this database, and do the API keys work?"""

from collections.abc import Sequence

from immich_dbsync.doctor.finding import Finding, note, ok, wrong
from immich_dbsync.doctor.mending import ours
from immich_dbsync.immich import api
from immich_dbsync.immich.keys import PERMISSIONS
from immich_dbsync.immich.probe import Probe
from immich_dbsync.service.accounts import Account
from immich_dbsync.settings import Settings, name_in_use

_SERVER, _SAME, _KEY = "server", "server and database", "API key"
_IN_IMMICH = "in Immich (Account Settings, API Keys)"
_SAME_WHY = "what one is asked to do would show in the other's tables only if they belong together"
_KEY_WHY = "the user's files are uploaded, and their assets trashed, with it"


def _apart() -> str:
    return f"Mend {name_in_use('server_url')} or {name_in_use('database_url')}: the one is not the other's"


async def server(probe: Probe, version: str | None) -> list[Finding]:
    """Whether the server answers, and with the version that the database names (None: not known)."""
    why = "uploads, and what is moved to Immich's trash, go through it"
    try:
        await probe.ping()
        answered = await probe.version()
    except api.ApiError as error:
        return [wrong(_SERVER, str(error), why, f"Start Immich, or set {name_in_use('server_url')}, without /api")]
    found = [ok(_SERVER, f"Immich {answered} answers at {probe.address}", why)]
    if version is not None:
        found.append(same_version(answered, version))
    return found


def same_version(answered: str, recorded: str) -> Finding:
    """Whether the server is of the version that used the database last."""
    what = f"version of {_SAME}"
    if answered == recorded:
        return ok(what, f"both are of Immich {answered}", _SAME_WHY)
    return wrong(what, f"the server is Immich {answered}, the database is Immich {recorded}'s", _SAME_WHY, _apart())


def unusable(problems: Sequence[str], emails: Sequence[str], settings: Settings) -> list[Finding]:
    """Keys that can't be used, by what was said of each; ``emails``: Immich's users who have no other key."""
    file, variable = settings.api_keys_file, settings.api_keys_in_variable()
    where = " or ".join([*([name_in_use("api_keys")] if variable else []), *([str(file)] if file is not None else [])])
    if file is None:
        mend = f"Put another key in its place in {where}; make it {_IN_IMMICH}"
    elif emails:
        mend = _add(emails, f"Take it out of {where}.")
    else:
        mend = f"Take it out of {where}"
    found = []
    for problem in problems:  # each says after a colon what to do; that is said better here
        said, _, todo = problem.partition(": ")
        found.append(wrong(_KEY, said, _KEY_WHY, f"Take it out of {where}" if todo == "take the key out" else mend))
    return found


def nobody(emails: Sequence[str]) -> Finding:
    """No user is set up yet; ``emails``: whom Immich has."""
    if not emails:
        return wrong(_KEY, "Immich has no user yet", _KEY_WHY, "Make the first in Immich's web page")
    return wrong(_KEY, "no user is set up yet", _KEY_WHY, _add(emails))


def _add(emails: Sequence[str], first: str = "") -> str:
    others = f" Or for another of {len(emails)} users, see users list." if len(emails) > 1 else ""
    return ours("users", "add", emails[0], first=first + others if first else others.lstrip())


def better_key(account: Account, settings: Settings) -> str:
    """How a user comes to a key with all that is needed: `users add` makes one where theirs stands in the file."""
    if settings.api_keys_file is None or account.key in settings.api_keys_in_variable():
        needed = " and ".join(PERMISSIONS)
        return f"Give it {needed} {_IN_IMMICH}, or put another in its place in {name_in_use('api_keys')}"
    return ours("users", "add", account.owner.email)


async def key(probe: Probe, account: Account, settings: Settings) -> list[Finding]:
    """Whether the server knows this key as this user's, and whether it may do what is needed; changes nothing."""
    email = account.owner.email
    what, same = f"{_KEY} of {email}", f"{_SAME}, by the key of {email}"
    try:
        whose = await probe.whose(account.key)
        lacking = await probe.lacking(account.key)
    except api.KeyRejected:
        return [wrong(same, f"the server does not know the key of {email} that the database has", _SAME_WHY, _apart())]
    except api.ApiError as error:
        return [wrong(what, f"it could not be tried: {error}", _KEY_WHY, "Try again when the server answers")]
    if whose is not None and whose != account.owner.id:
        return [wrong(same, f"to the server, the key of {email} is user {whose}'s", _SAME_WHY, _apart())]
    return [
        ok(same, f"the server knows the key of {email} that the database has", _SAME_WHY),
        permissions(what, lacking, better_key(account, settings)),
    ]


def permissions(what: str, lacking: Sequence[str], better: str) -> Finding:
    """Whether a key has the permissions that are needed; ``better`` is how to come to one that has."""
    if {*lacking} - {"asset.copy"}:
        return wrong(what, f"it lacks {' and '.join(lacking)}", _KEY_WHY, better)
    if lacking:
        return note(
            what,
            "it lacks asset.copy",
            "the old version of an edited picture stays in Immich beside the new one",
            f"Give the key this permission {_IN_IMMICH}",
        )
    return ok(what, "it has the permissions that are needed", _KEY_WHY)
