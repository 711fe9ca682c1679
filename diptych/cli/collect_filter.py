"""diptych collect filter"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from diptych.cli.exit_codes import INTERRUPTED, NOTHING, OK, PARTLY
from diptych.cli.options import json_option, print_json, stages
from diptych.cli.terminal import print_error, print_result, print_status
from diptych.display.counting import counted

if TYPE_CHECKING:
    from diptych.collect.filtering import FilterResult

Command = TypeVar("Command", bound=Callable[..., Any])


def filter_options(command: Command) -> Command:
    """What is asked of pictures and captions."""
    for option in reversed((
        click.option("--size", metavar="PX", type=click.IntRange(min=1), help="Make pictures smaller, to this shorter "
                     "side. None is made larger."),
        click.option("--min-side", "min_side_px", metavar="PX", default=64, show_default=True,
                     type=click.IntRange(min=1), help="The least shorter side."),
        click.option("--max-aspect", metavar="RATIO", default=3.0, show_default=True, type=click.FloatRange(min=1),
                     help="The greatest ratio of the longer to the shorter side."),
        click.option("--language", "languages", metavar="CODE", multiple=True, help="A language to accept, of ISO "
                     "639-1; by default all. Repeatable."),
        click.option("--disable-rule", "disabled", metavar="NAME", multiple=True, help="A rule that is not applied. "
                     "Repeatable."),
        click.option("--model", metavar="MODEL", help="The CLIP model that judges; by default the bundled one."),
        click.option("--agreement", metavar="COSINE", type=click.FloatRange(-1, 1), help="The least cosine of a "
                     "picture and its best caption."),
        click.option("--keep-top", metavar="SHARE", type=click.FloatRange(0, 1, min_open=True), help="Keep this share "
                     "of the pairs, those that agree best."),
        click.option("--not-in", "evaluation_sets", metavar="SET", multiple=True, help="An evaluation set, by name or "
                     "folder, whose pictures are left out. Repeatable."),
        click.option("--by-vector", is_flag=True, help="Find copies by the model's vectors as well: mirrored ones, and "
                     "those that are cropped more."),
        click.option("--classifier", "classifiers", metavar="NAME[=SCORE]", multiple=True, help="A classifier of what "
                     "is unsafe, opennsfw or nudenet, and the score from which on a picture is. Repeatable."),
        click.option("--concept", "concepts", metavar="TEXT=COSINE", multiple=True, help="A text; pictures with this "
                     "cosine or more are unsafe. Repeatable."),
        click.option("--flag-unsafe", "flags_unsafe", is_flag=True, help="Flag unsafe pictures instead of leaving them "
                     "out."),
        click.option("--balance", metavar="NUMBER", type=click.IntRange(min=1), help="Balance the set: of each query, "
                     "keep about this number of the pairs whose captions have it."),
        click.option("--queries", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="The queries to "
                     "balance by, one a line. Captions with none of them are left out. By default the set's own "
                     "frequent words and pairs of words."),
        click.option("--balance-by", type=click.Choice(("clip", "metaclip")), default="clip", show_default=True,
                     help="Each query chooses exactly NUMBER pairs (CLIP), or each of its pairs with the probability "
                     "NUMBER / pairs (MetaCLIP)."),
        click.option("--seed", default=0, show_default=True, help="Of balancing: the same one chooses the same pairs."),
        click.option("--pairs-per-shard", default=10_000, show_default=True, type=click.IntRange(min=1)),
    )):  # fmt: skip
        command = option(command)
    return command


@click.command("filter")
@click.argument("shards", metavar="SHARDS", type=click.Path(exists=True))
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False))
@filter_options
@json_option
def command(shards: str, out: str, as_json: bool, **given: Any) -> int:
    """Filter the pairs of SHARDS into OUT: usable captions, and pictures that are worth it, each once.

    SHARDS is a folder of WebDataset shards, collected here or not. Nothing in it is changed. Captions under many
    pictures of one site are left out as well: for this, all are counted first. OUT/report.html shows what went, and
    why. The same command goes on where an earlier one was interrupted.

    \b
    diptych collect filter pairs/ filtered/
    diptych collect filter pairs/ filtered/ --keep-top 0.3 --not-in coco
    diptych collect filter pairs/ filtered/ --classifier opennsfw
    diptych collect filter pairs/ filtered/ --balance 20000 --queries queries.txt
    """
    from diptych.collect.filtering import FilterSettings, filter_shards
    from diptych.collect.pictures.safety import Concept, parsed_classifiers
    from diptych.collect.reading import DAMAGED

    given["classifiers"] = parsed_classifiers(given["classifiers"])
    given["concepts"] = tuple(Concept.parsed(each) for each in given["concepts"])
    settings = FilterSettings(**given)
    try:
        with stages("counting captions", "looking", "comparing", "writing") as (counting, looking, deciding, writing):
            found = filter_shards(
                shards, out, settings, counting=counting, looking=looking, deciding=deciding, writing=writing
            )
    except KeyboardInterrupt:
        print_error("interrupted: not all pairs are written")
        print_status(f"the same command goes on from there: diptych collect filter {shlex.join([shards, out])} ...")
        return INTERRUPTED
    if as_json:
        print_json({**found._asdict(), "out": str(found.out)})
    else:
        _report(found)
        if settings.balance and found.kept and not found.removed.get("balance"):
            print_status(f"balancing left nothing out: no query has more than {counted(settings.balance, 'pair')}")
    if DAMAGED in found.removed:
        print_status("a damaged shard gave the pairs before the damage alone")
        return PARTLY
    return OK if found.kept else NOTHING


def _report(found: FilterResult) -> None:
    print_result(f"{found.kept:,} of {counted(found.seen, 'pair')} kept")
    for reason, count in found.removed.items():
        print_result(f"{count:>10,}  {reason}")
    for name, count in found.flagged.items():
        print_result(f"{count:>10,}  flagged: {name}")
    if found.least_agreement is not None:
        print_status(f"the least agreement of picture and caption is {found.least_agreement:.3f}")
