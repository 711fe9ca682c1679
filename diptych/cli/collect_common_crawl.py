"""diptych collect common-crawl"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from diptych.cli.exit_codes import NOTHING, OK
from diptych.cli.options import failures_json, json_option, print_json, print_status, report_failures, stages
from diptych.cli.terminal import print_result
from diptych.display.counting import counted

if TYPE_CHECKING:
    from diptych.collect.archives.job import ArchivesResult

_SHOWN = 8  # reasons


@click.command("common-crawl")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False))
@click.option(
    "--size", metavar="PX", type=click.IntRange(min=1),
    help="Make pictures that the archives have smaller, to this shorter side. None is made larger.",
)  # fmt: skip
@click.option(
    "--disable-rule", "disabled", metavar="NAME", multiple=True,
    help="A rule on captions or pictures that is not applied. Repeatable.",
)  # fmt: skip
@click.option(
    "--language", "languages", metavar="CODE", multiple=True,
    help="A language of captions to accept, such as en; by default all. Repeatable.",
)  # fmt: skip
@click.option(
    "--base", metavar="ADDRESS", help="What the paths of a list (*.paths.gz) follow; by default Common Crawl's."
)
@click.option("--engine", type=click.Choice(("processes", "ray")), default="processes", show_default=True)
@click.option("--processes", metavar="NUMBER", type=click.IntRange(min=1), help="By default one per core.")
@click.option(
    "--cluster", metavar="ADDRESS",
    help="The Ray cluster: HOST:PORT, ray://HOST:PORT, auto, or local for this machine, as --engine ray alone means.",
)  # fmt: skip
@click.option("--pairs-per-shard", default=10_000, show_default=True, type=click.IntRange(min=1))
@json_option
def command(
    paths: tuple[str, ...], out: str, size: int | None, disabled: tuple[str, ...], languages: tuple[str, ...],
    base: str | None, engine: str, processes: int | None, cluster: str | None, pairs_per_shard: int, as_json: bool,
) -> int:  # fmt: skip
    """Find pictures with captions in archives of the web: WARC and WAT files, of Common Crawl and others.

    A PATH is a file, a folder, a pattern, an address (https://, s3://), or a list of paths (*.paths.gz). OUT/found gets
    a table for each archive, whose pictures `diptych collect list` downloads; pictures that an archive has itself
    become shards in OUT. What reserves itself against training is left out; captions that a site repeats stay, until
    `diptych collect filter` has seen the whole. The same command goes on where an earlier one was interrupted.

    \b
    diptych collect common-crawl archives/*.warc.gz pairs/
    diptych collect common-crawl warc.paths.gz pairs/ --engine ray
    """
    from diptych.collect.archives.job import collect_archives, in_processes, in_this_process, on_ray
    from diptych.collect.archives.listing import BASE, archives_in
    from diptych.collect.archives.reading import ArchiveRules

    if engine == "ray" or cluster:
        read = on_ray(cluster or "local")
    else:
        read = in_this_process if processes == 1 else in_processes(processes)
    rules = ArchiveRules(size, disabled, languages)
    with stages("reading archives") as (advance,):
        result = collect_archives(
            archives_in(paths, base or BASE), out, rules=rules, read=read, pairs_per_shard=pairs_per_shard,
            progress=advance,
        )  # fmt: skip
    code = report_failures(result.lost)
    if as_json:
        print_json({**asdict(result), "lost": failures_json(result.lost)})
    else:
        _report(result)
    return code or (OK if result.found or result.pairs else NOTHING)


def _report(result: ArchivesResult) -> None:
    done = result.archives - len(result.lost)
    rows, pairs = counted(result.found, "picture"), counted(result.pairs, "pair")
    print_result(f"{rows} to download and {pairs} from {done:,} of {counted(result.archives, 'archive')}")
    if result.left_out:
        reasons = [f"{count:,} {reason}" for reason, count in list(result.left_out.items())[:_SHOWN]]
        print_status(f"left out: {', '.join(reasons)}{', ...' if len(result.left_out) > _SHOWN else ''}")
    for name, flaws in list(result.flawed.items())[:_SHOWN]:
        print_status(f"  {name}: " + ", ".join(f"{count:,} {flaw}" for flaw, count in flaws.items()))
