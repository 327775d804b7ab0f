"""``immich-dbsync run``: the service."""

import asyncio

from immich_dbsync.cli.common import console_errors, load_settings


def run() -> None:
    """Sync until stopped (SIGTERM or Ctrl-C).

    Example: IMMICH_DBSYNC_CONFIG=/etc/immich-dbsync.toml immich-dbsync run
    """
    with console_errors():
        settings = load_settings()
        from immich_dbsync.service import app, logs  # noqa: PLC0415  # other commands need none of it

        logs.configure(settings.log_format, settings.log_level)
        asyncio.run(app.run(settings))
