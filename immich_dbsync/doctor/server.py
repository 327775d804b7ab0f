"""Does Immich's server answer, is it the one of this database, and do the API keys work?"""

from collections.abc import Sequence

from immich_dbsync.doctor.finding import Finding, note, ok, wrong
from immich_dbsync.errors import SettingsError
from immich_dbsync.immich import api
from immich_dbsync.immich.probe import Probe
from immich_dbsync.service.accounts import Account
from immich_dbsync.settings import name_in_use

_SERVER, _SAME, _KEY = "server", "server and database", "API key"
_SAME_WHY = "what one is asked to do would show in the other's tables only if they belong together"
_KEY_WHY = "the user's files are uploaded, and their assets trashed, with it"
_APART = "Mend server_url or database_url: the one is not the other's"


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
    if answered == recorded:
        return ok(_SAME, f"both are of Immich {answered}", _SAME_WHY)
    return wrong(_SAME, f"the server is Immich {answered}, the database is Immich {recorded}'s", _SAME_WHY, _APART)


def unreadable(error: SettingsError) -> Finding:
    """The file of keys can't be read, or may be read by others; the error says what to do."""
    return wrong(_KEY, str(error).rstrip("."), _KEY_WHY, "Mend that, then run: immich-dbsync doctor")


def unusable(problems: Sequence[str], emails: Sequence[str], file: object) -> list[Finding]:
    """Keys that can't be used, by what was said of each; and what to do where there are none at all."""
    found = [
        wrong(_KEY, problem, _KEY_WHY, f"Take it out of {file or name_in_use('api_keys')}; make another with users add")
        for problem in problems
    ]
    if not found and not emails:
        return [wrong(_KEY, "Immich has no user yet", _KEY_WHY, "Make the first in Immich's web page")]
    return found


def nobody(emails: Sequence[str]) -> Finding:
    """No user is set up yet."""
    others = f" (or another of {len(emails)})" if len(emails) > 1 else ""
    return wrong(_KEY, "no user is set up yet", _KEY_WHY, f"Run: immich-dbsync users add {emails[0]}{others}")


async def key(probe: Probe, account: Account) -> list[Finding]:
    """Whether the server knows this key as this user's, and whether it may do what is needed; changes nothing."""
    email = account.owner.email
    what = f"{_KEY} of {email}"
    try:
        whose = await probe.whose(account.key)
        lacking = await probe.lacking(account.key)
    except api.KeyRejected:
        return [wrong(_SAME, f"the server does not know the key of {email} that the database has", _SAME_WHY, _APART)]
    except api.ApiError as error:
        return [wrong(what, f"it could not be tried: {error}", _KEY_WHY, "Try again when the server answers")]
    if whose is not None and whose != account.owner.id:
        return [wrong(_SAME, f"to the server, the key of {email} is user {whose}'s", _SAME_WHY, _APART)]
    return [
        ok(_SAME, f"the server knows the key of {email} that the database has", _SAME_WHY),
        permissions(what, email, lacking),
    ]


def permissions(what: str, email: str, lacking: Sequence[str]) -> Finding:
    """Whether a key has the permissions that are needed."""
    again = f"Run: immich-dbsync users add {email}"
    if {*lacking} - {"asset.copy"}:
        return wrong(what, f"it lacks {' and '.join(lacking)}", _KEY_WHY, again)
    if lacking:
        return note(
            what,
            "it lacks asset.copy",
            "the old version of an edited picture stays in Immich beside the new one",
            "Give the key this permission in Immich",
        )
    return ok(what, "it has the permissions that are needed", _KEY_WHY)
