"""diptych collect forget"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from diptych.cli.exit_codes import OK, PARTLY
from diptych.cli.names import quoted
from diptych.cli.options import failures_json, json_option, print_json, print_status, report_failures
from diptych.cli.terminal import print_result, progress
from diptych.display.counting import counted

if TYPE_CHECKING:
    from diptych.collect.output.forgetting import ForgetResult, Request

_KNOWN_BY = {
    "shards": "has seen these shards",
    "folder": "has read this folder, in a version that is not known",
    "model": "started from a model that has",
}


@click.command("forget")
@click.argument("out", type=click.Path(exists=True, file_okay=False))
@click.option("--url", "urls", metavar="ADDRESS", multiple=True, help="The address of a picture, or of a page.")
@click.option("--domain", "domains", metavar="NAME", multiple=True, help="A domain, with those below it.")
@click.option(
    "--hash", "digests", metavar="SHA256", multiple=True, help="The SHA-256 of a picture, as it came or as it is kept."
)
@click.option(
    "--index", "indexes", metavar="INDEX", multiple=True,
    help="An index of these shards: its folder, or an address (postgresql://..., milvus://...).",
)  # fmt: skip
@click.option(
    "--runs", metavar="DIR", multiple=True, type=click.Path(exists=True, file_okay=False),
    help="A folder with training runs: those that saw what is removed are named.",
)  # fmt: skip
@json_option
def command(
    out: str, urls: tuple[str, ...], domains: tuple[str, ...], digests: tuple[str, ...], indexes: tuple[str, ...],
    runs: tuple[str, ...], as_json: bool,
) -> int:  # fmt: skip
    """Remove from the collection OUT what someone asks to have removed.

    It goes from the shards, the tables beside them and the indexes that are named, and no later run into OUT collects
    it again. Of the requests, OUT/forgotten.json keeps salted hashes only. With --url and --hash, copies of the same
    file from elsewhere go, too. Without any of the three, the indexes and runs are looked through for all that was
    removed before.

    \b
    diptych collect forget pairs/ --domain example.org --index pairs/ --runs runs/
    """
    from diptych.collect.output.datasheet import refresh_datasheet
    from diptych.collect.output.forgetting import forget

    requests: list[Request] = [("url", each) for each in urls]
    requests.extend(("domain", each) for each in domains)
    requests.extend(("sha256", each) for each in digests)
    if not (requests or indexes or runs):
        raise click.UsageError(
            "name what to forget: --url, --domain or --hash; or what to look through: --index, --runs."
        )
    with progress("reading shards") as advance:
        result = forget(out, requests, indexes=indexes, runs=runs, progress=advance)
    refresh_datasheet(out)
    code = report_failures(result.unread)
    if as_json:
        print_json(_as_json(result))
    else:
        for line in _lines(result, out):
            print_result(line)
    if result.unread:
        print_status("what these shards have of it is still there: repair or remove them, and call this again")
    return PARTLY if result.unread else code or OK


def _lines(result: ForgetResult, out: str) -> list[str]:
    lines = [f"removed {counted(result.pairs, 'pair')} from {counted(len(result.shards), 'shard')} of {quoted(out)}"]
    lines += [f"removed {counted(items, 'item')} from the index {index}" for index, items in result.indexes.items()]
    return lines + [f"{quoted(model.run)} {_KNOWN_BY[model.known_by]}" for model in result.models]


def _as_json(result: ForgetResult) -> dict[str, object]:
    return {
        "pairs": result.pairs,
        "shards": result.shards,
        "indexes": result.indexes,
        "models": [{"run": str(model.run), "known_by": model.known_by} for model in result.models],
        "unread": failures_json(result.unread),
    }
