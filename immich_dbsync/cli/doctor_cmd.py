"""``immich-dbsync doctor``: what is wrong, why it matters, and how to mend it."""

import sys
from contextlib import aclosing
from dataclasses import asdict

import typer
from rich.console import Console
from rich.markup import escape

from immich_dbsync.cli import progress
from immich_dbsync.cli.common import AsJson, console_errors, load_settings, plain, print_json, print_table, run_async
from immich_dbsync.doctor.examination import examine
from immich_dbsync.doctor.finding import Finding, Level
from immich_dbsync.errors import NEEDS_SOMEBODY
from immich_dbsync.wording import counted

app = typer.Typer(add_completion=False)

_MARKS = {Level.OK: "[green]✓[/]", Level.NOTE: "[yellow]•[/]", Level.WRONG: "[bold red]✗[/]"}


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check all that a set-up needs, and say how to mend what is wrong. Changes nothing.

    Each line says what was looked at, what was found, why it matters, and how to mend it. From nothing at all, do what
    the first wrong line says, and run it again. Exits with 12 when something needs somebody.

    Example: immich-dbsync doctor
    """
    with console_errors():
        findings = run_async(_examined(quiet=as_json))
        wrong = sum(finding.level is Level.WRONG for finding in findings)
        if as_json:
            print_json({"ok": not wrong, "findings": [asdict(finding) for finding in findings]})
        else:
            said = (
                "Nothing needs to be mended."
                if not wrong
                else f"{wrong} of {len(findings)} {'needs' if wrong == 1 else 'need'} somebody."
            )
            typer.echo(said, err=True)
        if wrong:
            raise typer.Exit(NEEDS_SOMEBODY)


async def _examined(*, quiet: bool) -> list[Finding]:
    console = Console(highlight=False, soft_wrap=True) if sys.stdout.isatty() else None
    findings: list[Finding] = []
    line = progress.Line("looking")
    try:
        line.tell("looking")
        async with aclosing(examine(load_settings)) as found:  # closed at once where nobody reads on
            async for finding in found:
                findings.append(finding)
                if not quiet:
                    line.hide()
                    _print(finding, console)
                line.tell(f"{counted(len(findings), 'check')} done")
    finally:
        line.hide()
    return findings


def _print(finding: Finding, console: Console | None) -> None:
    if console is None:
        print_table((), [tuple(asdict(finding).values())])
        return
    what, found, why, mend = (escape(plain(part)) for part in (finding.what, finding.found, finding.why, finding.mend))
    console.print(f"{_MARKS[finding.level]} [bold]{what}[/]  {found}")
    if finding.level is not Level.OK:
        console.print(f"    why   {why}", style="dim")
        console.print(f"    mend  {mend}")
