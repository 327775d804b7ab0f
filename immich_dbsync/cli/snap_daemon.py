"""What the service in a snap does before it runs, and when the snap is removed."""

import asyncio
import random

import structlog
import typer

from immich_dbsync.cli.common import load_settings
from immich_dbsync.service import logs
from immich_dbsync.service.gate import PROBE, unreachable
from immich_dbsync.settings import Settings
from immich_dbsync.store import install

log = structlog.get_logger()


def wait_for_immich() -> None:
    """Return once Immich answers: then its database is there, too, with all its tables."""
    settings = load_settings()
    logs.configure(settings.log_format, settings.log_level)
    asyncio.run(_until_immich_answers(settings))


async def _until_immich_answers(settings: Settings) -> None:
    attempt = 0
    while (reason := await unreachable(settings)) is not None:
        if attempt == 0:
            log.warning("server.unavailable", reason=reason, advice="waiting; check the server URL if it stays")
        await asyncio.sleep(PROBE.wait(attempt, random.random()))  # noqa: S311  # jitter, no secret
        attempt += 1


def remove() -> None:
    """Take our schema and triggers out of the database, if one was set; nobody can once the snap is gone."""
    settings = load_settings()
    if settings.database_url is None and settings.db_hostname is None:
        return
    for change in install.remove(settings.require_database_url()).changed:
        typer.echo(change)
