"""diptych collect list"""

from __future__ import annotations

import gc
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from diptych.cli.exit_codes import INTERRUPTED, NOTHING, OK, PARTLY
from diptych.cli.options import json_option, print_json, stages
from diptych.cli.terminal import print_error, print_result, print_status
from diptych.display.counting import counted

if TYPE_CHECKING:
    from diptych.collect.lists.collecting import ListResult


_ALLOCATIONS = 20_000  # containers, between two looks for cycles
Command = TypeVar("Command", bound=Callable[..., Any])
_ABOVE_0 = click.FloatRange(min=0, min_open=True)


def list_options(command: Command) -> Command:
    """What is asked for, how often, and what is made of it."""
    seconds: dict[str, Any] = {"metavar": "SECONDS", "show_default": True, "type": _ABOVE_0}
    several: dict[str, Any] = {"multiple": True}
    for option in reversed((
        click.option("--contact", required=True, metavar="MAIL_OR_URL", help="Who asks; every host is told."),
        click.option("--size", metavar="PX", type=click.IntRange(min=1), help="Make pictures smaller, to this shorter "
                     "side. None is made larger."),
        click.option("--retry", is_flag=True, help="Ask again for what failed or was refused."),
        click.option("--i-own-these", "owned", metavar="HOST", **several, help="A host of your own: its rules are not "
                     "asked for, and it may have a private address. Repeatable."),
        click.option("--allow-network", "networks", metavar="NETWORK", **several, help="A network that may be asked "
                     "although it is not public, such as 10.0.0.0/8. Repeatable."),
        click.option("--disable-rule", "disabled", metavar="NAME", **several, help="A rule on captions or pictures "
                     "that is not applied. Repeatable."),
        click.option("--requests", default=512, show_default=True, type=click.IntRange(min=1), help="Requests at a "
                     "time, of all hosts."),
        click.option("--per-host", default=4, show_default=True, type=click.IntRange(min=1), help="Requests at a time, "
                     "of one host."),
        click.option("--delay", "delay_s", default=0.0, metavar="SECONDS", type=click.FloatRange(min=0), help="Least "
                     "time between two requests to one host. A host that asks for more, or is slow, gets more."),
        click.option("--deadline", "url_s", default=30.0, **seconds, help="Most time for an address, with redirects."),
        click.option("--portion-deadline", "portion_s", default=3600.0, **seconds, help="Most time for 10,000 "
                     "addresses; what has not come by then has failed."),
        click.option("--max-mb", default=32.0, show_default=True, type=_ABOVE_0, help="Megabytes of one picture."),
        click.option("--memory-mb", default=256.0, show_default=True, type=click.FloatRange(min=1), help="Megabytes of "
                     "pictures that are in memory at a time."),
        click.option("--processes", type=click.IntRange(min=1), help="Processes that decode; by default one per core."),
        click.option("--pairs-per-shard", default=10_000, show_default=True, type=click.IntRange(min=1)),
        click.option("--url-column", metavar="NAME", help="The column of addresses, if its name is unusual."),
        click.option("--caption-column", metavar="NAME", help="The column of captions, if its name is unusual."),
    )):  # fmt: skip
        command = option(command)
    return command


@click.command("list")
@click.argument("lists", nargs=-1, required=True, metavar="LIST...", type=click.Path(exists=True))
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False))
@list_options
@json_option
def command(lists: tuple[str, ...], out: str, as_json: bool, max_mb: float, memory_mb: float, **given: Any) -> int:
    """Download the pictures of LISTs into WebDataset shards in OUT.

    A LIST is a table with a column of addresses and one of captions, as CSV, TSV, Parquet, JSON or JSON lines, or a
    folder of such tables: LAION's, CC12M's and DataComp's are known. Hosts are asked as their robots.txt and
    tdm-reservation permit. Captions that a whole site repeats stay: `diptych collect filter` leaves them out. The same
    command goes on where an earlier one was interrupted.

    \b
    diptych collect list pairs.parquet pairs/ --contact me@example.org
    diptych collect list pairs.parquet pairs/ --contact me@example.org --retry
    """
    from diptych.collect.lists.collecting import collect_list
    from diptych.collect.lists.downloader import Limits

    names = ("requests", "per_host", "delay_s", "url_s", "portion_s")
    numbers = {name: given.pop(name) for name in names}
    limits = Limits(**numbers, max_bytes=round(max_mb * 2**20), memory_bytes=round(memory_mb * 2**20))
    try:
        with _rarely_collected(), stages("reading lists", "downloading") as (on_read, progress):
            done = collect_list(lists, out, limits=limits, progress=progress, on_read=on_read, **given)
    except (KeyboardInterrupt, OSError) as error:
        _report_stop(lists, out, error)
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        raise
    if as_json:
        print_json({**done._asdict(), "out": str(done.out)})
    else:
        _report(done)
    if not done.done:
        return NOTHING
    return PARTLY if done.failed else OK


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Python looks for cycles less often, and not among what is there already: a tenth of this process's time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _report(done: ListResult) -> None:
    print_result(f"{counted(done.pairs, 'pair')} written in {done.seconds:.1f} s; {_state(done)}")
    for what, counts in (("rows left out", done.left_out), ("failed", done.failed), ("refused", done.refused)):
        if counts:
            print_status(f"{what}: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items()))
    if not done.rows and not done.left_out:
        print_status("the list has no rows besides its header; wanted a row for each picture")
    if "no public address" in {*done.failed, *done.refused}:
        print_status(
            "of this machine or its network only what is named is asked: --allow-network 10.0.0.0/8, or for hosts of "
            "your own --i-own-these HOST; both with --retry"
        )
    if done.failed:
        print_status(f"{done.out / 'failed.csv'} has their addresses; --retry asks for them again")


def _state(done: ListResult) -> str:
    return f"{done.done:,} of {counted(done.urls, 'address', 'addresses')} are in shards"


def _report_stop(lists: Sequence[str], out: str, error: BaseException) -> None:
    """Say what there is, and how to go on. Nothing is printed on stdout: the run is not complete."""
    from pathlib import Path

    from diptych.collect.lists.collecting import summary
    from diptych.collect.lists.ledger import NAME

    if not Path(out, NAME).exists():
        return
    done = summary(out)
    what = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
    print_error(f"{what}: {_state(done)}, {done.waiting:,} were not asked for yet")
    print_status(f"the same command goes on from there: diptych collect list {shlex.join([*lists, out])} ...")
