"""``immich-dbsync demo``: the whole loop, with nothing to set up."""

import typer

from immich_dbsync.cli import completion

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    keep: bool = typer.Option(False, "--keep", help="Leave everything running afterwards, to play with."),
    immich: str = typer.Option(
        "3.1.0",
        metavar="VERSION",
        help="The Immich version to stand in for: 2.7.5 or 3.1.0.",
        autocompletion=completion.versions,
    ),
) -> None:
    """Show photos going both ways, on an embedded PostgreSQL and a stand-in for Immich.

    Example: immich-dbsync demo --keep
    """
    from immich_dbsync.demo import show  # noqa: PLC0415  # needs the demo extra

    raise typer.Exit(show.run(keep=keep, version=immich))
