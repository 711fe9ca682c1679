"""diptych doctor"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from functools import partial as bound
from typing import TYPE_CHECKING

import click

from diptych.cli.cache import show_cache
from diptych.cli.exit_codes import FAILED, OK, PARTLY
from diptych.cli.options import model_options, open_model, print_json, say
from diptych.cli.terminal import tell
from diptych.cli.trusting import forget, known_indexes, opened, trust_in, trust_option
from diptych.cli.wording import notice
from diptych.engines import EngineName
from diptych.errors import SearchIndexError

if TYPE_CHECKING:
    from diptych.index.doctor import Finding
    from diptych.index.local import LocalIndex

MOST_UNREAD = 20


@click.command("doctor")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--mend", is_flag=True, help="Repair what can be repaired.")
@click.option(
    "--index", "place", metavar="DIR", type=click.Path(file_okay=False), help="Where the index is, if elsewhere."
)
@trust_option
@click.option("--forget", "is_forgotten", is_flag=True, help="Take back that the index was made or accepted here.")
@click.option("--cache", is_flag=True, help="Show what is kept in the user's cache.")
@click.option("--empty", is_flag=True, help="With --cache: remove it.")
@model_options
def command(
    folder: str | None, mend: bool, place: str | None, trust: bool, is_forgotten: bool, cache: bool, empty: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Say what is wrong with the index of FOLDER, or, without one, with the model named, or with this installation.

    \b
    diptych doctor
    diptych doctor ~/Pictures --mend
    diptych doctor --model openai/clip-vit-base-patch32
    diptych doctor --cache --empty
    """
    if cache or empty:
        if not cache or folder or place or model:
            raise click.UsageError("--cache stands alone, or with --empty.")
        return show_cache(empty, as_json)
    if is_forgotten and (mend or trust or not (folder or place)):
        raise click.UsageError("--forget goes with FOLDER alone, or with --index.")
    from diptych.index.doctor import examine
    from diptych.installation import installation, of_model

    unread: dict[str, str] = {}
    partial: dict[str, str] = {}
    if folder is None and place is None and model:
        facts, findings = of_model(open_model(model, device, activation, engine))
    elif folder is None and place is None:
        facts, findings = installation()
        facts |= {"terminal": _terminal(), **known_indexes()}
    else:
        from diptych.media.path_patterns import inside

        opener = bound(open_model, device=device, activation=activation, engine=engine)
        settings = {"model": model, "index": place, "open_model": opener, "trust": trust}
        with opened(folder or ".", opens_model=False, **settings) as index:
            if is_forgotten:
                return forget(index, as_json)
            findings = examine(index, mend=mend)
            facts = {"trust": trust_in(index)} if findings else _facts(index)
            with suppress(SearchIndexError, sqlite3.DatabaseError):  # of which the findings tell
                unread = {path: message for path, (_, message) in index.failures().items()}
                partial = index.catalog.partial(*inside(index.under))
    left = [finding for finding in findings if not finding.mended]
    if as_json:
        found = {"facts": facts, "findings": [_json(finding) for finding in findings]}
        print_json({**found, "unread": unread, "partial": partial})
    else:
        _print(facts, findings)
        _print_files("not read", list(unread.values()))
        _print_files("read in part", [f"{path}: {what}" for path, what in partial.items()])
        if not findings and not unread:
            say("nothing is wrong")
    if left:
        return FAILED
    return PARTLY if unread else OK


def _print(facts: dict[str, str], findings: Sequence[Finding]) -> None:
    width = max(map(len, facts), default=0)
    for name, fact in facts.items():
        tell(f"{name:{width}}  {fact}", fold=False)
    for finding in findings:
        tell(f"{'mended' if finding.mended else 'wrong'}: {notice(finding.what)}", fold=False)
        tell(f"  {notice(finding.remedy)}", fold=False)


def _json(finding: Finding) -> dict[str, object]:
    return {"what": notice(finding.what), "remedy": notice(finding.remedy), "mended": finding.mended}


def _print_files(what: str, messages: Sequence[str]) -> None:
    """Files that are no fault of the index; a search names them once alone."""
    for message in messages[:MOST_UNREAD]:
        tell(f"{what}: {message}", fold=False)
    if len(messages) > MOST_UNREAD:
        tell(f"and {len(messages) - MOST_UNREAD:,} more {what} (--json has all)")


def _facts(index: LocalIndex) -> dict[str, str]:
    from diptych.index.update.rereading import count_older

    facts = {"index": str(index.place), "trust": trust_in(index), **_counts(index.counts()._asdict())}
    if older := count_older(index.catalog, index.under):
        facts["read by an earlier version"] = f"{older:,} (diptych index FOLDER reads again what this one reads better)"
    return facts


def _counts(counts: dict[str, int]) -> dict[str, str]:
    return {name: f"{count:,}" for name, count in counts.items()}


def _terminal() -> str:
    """How pictures are drawn in this terminal."""
    from diptych.cli.previews import choose

    return f"{os.environ.get('TERM', 'unknown')}; pictures as {choose()}"
