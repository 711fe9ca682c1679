"""diptych doctor"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from diptych.cli import FAILED, OK, with_flags
from diptych.cli.options import model_options, open_model, print_json, say
from diptych.engines import EngineName

if TYPE_CHECKING:
    from diptych.index.doctor import Finding

MOST_UNREAD = 20


@click.command("doctor")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--mend", is_flag=True, help="Repair what can be repaired.")
@click.option(
    "--index", "place", metavar="DIR", type=click.Path(file_okay=False), help="Where the index is, if elsewhere."
)
@model_options
def command(
    folder: str | None, mend: bool, place: str | None,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Say what is wrong with the index of FOLDER, or, without one, with this installation of diptych.

    \b
    diptych doctor
    diptych doctor ~/Pictures --mend
    """
    from diptych.index.doctor import examine
    from diptych.index.installation import installation

    unread: dict[str, str] = {}
    if folder is None and place is None:
        facts, findings = installation()
        facts["terminal"] = _terminal()
    else:
        from diptych.index.local import open_index

        opener = partial(open_model, device=device, activation=activation, engine=engine)
        with open_index(folder or ".", model=model, index=place, open_model=opener) as index:
            findings = examine(index, mend=mend)
            facts = {} if findings else {"index": str(index.place), **_counts(index.catalog.counts()._asdict())}
            unread = {path: message for path, (_, message) in index.catalog.failures().items()}
    left = [finding for finding in findings if not finding.mended]
    if as_json:
        print_json({"facts": facts, "findings": [finding._asdict() for finding in findings], "unread": unread})
    else:
        _print(facts, findings)
        _print_unread(unread)
    return FAILED if left else OK


def _print(facts: dict[str, str], findings: Sequence[Finding]) -> None:
    width = max(map(len, facts), default=0)
    for name, fact in facts.items():
        click.echo(f"{name:{width}}  {fact}")
    for finding in findings:
        click.echo(f"{'mended' if finding.mended else 'wrong'}: {with_flags(finding.what)}")
        click.echo(f"  {with_flags(finding.remedy)}")
    if not findings:
        say("nothing is wrong")


def _print_unread(unread: dict[str, str]) -> None:
    """Files that are no fault of the index; a search names them once alone."""
    for message in list(unread.values())[:MOST_UNREAD]:
        click.echo(f"not read: {message}")
    if len(unread) > MOST_UNREAD:
        click.echo(f"and {len(unread) - MOST_UNREAD:,} more (--json has all)")


def _counts(counts: dict[str, int]) -> dict[str, str]:
    return {name: f"{count:,}" for name, count in counts.items()}


def _terminal() -> str:
    """How pictures are drawn in this terminal."""
    from diptych.cli.previews import choose

    return f"{os.environ.get('TERM', 'unknown')}; pictures as {choose()}"
