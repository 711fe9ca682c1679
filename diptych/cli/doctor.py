"""diptych doctor"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from functools import partial as bound
from typing import TYPE_CHECKING

import click

from diptych.cli import trusting
from diptych.cli.cache import show_cache
from diptych.cli.exit_codes import FAILED, OK, PARTLY
from diptych.cli.options import model_options, open_model, print_json, print_status
from diptych.cli.terminal import print_result
from diptych.cli.trusting import known_indexes, opened, trust_in, trust_option
from diptych.cli.wording import notice
from diptych.engines import EngineName
from diptych.errors import SearchIndexError

if TYPE_CHECKING:
    from diptych.index.doctor import Finding
    from diptych.index.local import LocalIndex

MAX_UNREAD = 20


@click.command("doctor")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@click.option(
    "--index", "index_dir", metavar="DIR", type=click.Path(file_okay=False), help="The index directory, if elsewhere."
)
@trust_option
@click.option("--revoke-trust", is_flag=True, help="Treat the index as one that was neither made nor accepted here.")
@click.option("--cache", is_flag=True, help="Show the files in the user's cache.")
@click.option("--clear", is_flag=True, help="With --cache: delete the cached files.")
@model_options
def command(
    folder: str | None, repair: bool, index_dir: str | None, trust: bool, revoke_trust: bool, cache: bool, clear: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Check the index of FOLDER. Without FOLDER, check the model that --model names, or this installation.

    \b
    diptych doctor
    diptych doctor ~/Pictures --repair
    diptych doctor --model openai/clip-vit-base-patch32
    diptych doctor --cache --clear
    """
    is_index = folder is not None or index_dir is not None
    if cache or clear:
        if not cache or is_index or model:
            raise click.UsageError("--cache takes no other argument but --clear.")
        return show_cache(clear, as_json)
    if revoke_trust and (repair or trust or not is_index):
        raise click.UsageError("--revoke-trust takes FOLDER or --index, and no --repair or --trust.")
    if is_index:
        opener = bound(open_model, device=device, activation=activation, engine=engine)
        settings = {"model": model, "index": index_dir, "open_model": opener, "trust": trust}
        with opened(folder or ".", opens_model=False, **settings) as index:
            return trusting.revoke(index, as_json) if revoke_trust else _check_index(index, repair, as_json)
    from diptych.installation import installation, of_model

    if model:
        facts, findings = of_model(open_model(model, device, activation, engine))
    else:
        facts, findings = installation()
        facts |= {"terminal": _terminal(), **known_indexes()}
    return _report(facts, findings, {}, {}, as_json)


def _check_index(index: LocalIndex, repair: bool, as_json: bool) -> int:
    from diptych.index.doctor import examine
    from diptych.media.scanning.path_patterns import inside

    unread, partial = dict[str, str](), dict[str, str]()
    findings = examine(index, repair=repair)
    facts = {"trust": trust_in(index)} if findings else _facts(index)
    with suppress(SearchIndexError, sqlite3.DatabaseError):  # a finding already
        unread = {path: message for path, (_, message) in index.failures().items()}
        partial = index.catalog.partial(*inside(index.subfolder))
    return _report(facts, findings, unread, partial, as_json)


def _report(
    facts: dict[str, str], findings: Sequence[Finding], unread: dict[str, str], partial: dict[str, str], as_json: bool
) -> int:
    """Print the result; the exit code."""
    if as_json:
        result = {"facts": facts, "findings": [_json(finding) for finding in findings]}
        print_json({**result, "unread": unread, "partial": partial})
    else:
        _print(facts, findings)
        _print_files("not read", list(unread.values()))
        _print_files("read in part", [f"{path}: {missing}" for path, missing in partial.items()])
        if not findings and not unread:
            print_status("nothing is wrong")
    if not all(finding.repaired for finding in findings):
        return FAILED
    return PARTLY if unread else OK


def _print(facts: dict[str, str], findings: Sequence[Finding]) -> None:
    width = max(map(len, facts), default=0)
    for name, fact in facts.items():
        print_result(f"{name:{width}}  {fact}", fold=False)
    for finding in findings:
        print_result(f"{'repaired' if finding.repaired else 'wrong'}: {notice(finding.problem)}", fold=False)
        print_result(f"  {notice(finding.remedy)}", fold=False)


def _json(finding: Finding) -> dict[str, object]:
    return {"what": notice(finding.problem), "remedy": notice(finding.remedy), "mended": finding.repaired}


def _print_files(status: str, messages: Sequence[str]) -> None:
    """Files with problems of their own; the index is fine."""
    for message in messages[:MAX_UNREAD]:
        print_result(f"{status}: {message}", fold=False)
    if len(messages) > MAX_UNREAD:
        print_result(f"and {len(messages) - MAX_UNREAD:,} more {status} (--json lists all)")


def _facts(index: LocalIndex) -> dict[str, str]:
    from diptych.index.update.outdated import count_older

    facts = {"index": str(index.index_dir), "trust": trust_in(index), **_counts(index.counts()._asdict())}
    if older := count_older(index.catalog, index.subfolder):
        facts["read by an earlier version"] = f"{older:,} (diptych index FOLDER reads again what this one reads better)"
    return facts


def _counts(counts: dict[str, int]) -> dict[str, str]:
    return {name: f"{count:,}" for name, count in counts.items()}


def _terminal() -> str:
    """How this terminal shows pictures."""
    from diptych.cli.previews import choose

    return f"{os.environ.get('TERM', 'unknown')}; pictures as {choose()}"
