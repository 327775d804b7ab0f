"""``immich-dbsync run``: the service."""

import asyncio

import typer

from immich_dbsync.cli.common import console_errors, load_settings
from immich_dbsync.service import app as service
from immich_dbsync.service import logs

app = typer.Typer(add_completion=False)


@app.command()
def run() -> None:
    """Sync until stopped (SIGTERM or Ctrl-C).

    Example: immich-dbsync run
    """
    with console_errors():
        settings = load_settings()
        logs.configure(settings.log_format, settings.log_level)
        asyncio.run(service.run(settings))
