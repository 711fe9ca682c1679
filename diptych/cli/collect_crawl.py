"""diptych collect crawl"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from diptych.cli.exit_codes import INTERRUPTED, NOTHING, OK, PARTLY
from diptych.cli.interruption import interrupt_on_sigterm
from diptych.cli.options import json_option, print_json, progress
from diptych.cli.terminal import print_error, print_result, print_status
from diptych.display.counting import counted

if TYPE_CHECKING:
    from diptych.collect.pages.crawl import CrawlResult

Command = TypeVar("Command", bound=Callable[..., Any])
_COUNT: dict[str, Any] = {"metavar": "NUMBER", "show_default": True, "type": click.IntRange(min=1)}
_SECONDS: dict[str, Any] = {"metavar": "SECONDS", "show_default": True, "type": click.FloatRange(min=0)}


def crawl_options(command: Command) -> Command:
    """How far and how fast the crawl goes, and what is made of pictures."""
    for option in reversed((
        click.option("--contact", required=True, metavar="MAIL_OR_URL", help="Who asks; every host is told."),
        click.option("--size", metavar="PX", type=click.IntRange(min=1), help="Make pictures smaller, to this shorter "
                     "side. None is made larger."),
        click.option("--depth", default=20, show_default=True, metavar="NUMBER", type=click.IntRange(min=0),
                     help="Most links from a start address."),
        click.option("--pages", default=10_000, help="Most pages in all.", **_COUNT),
        click.option("--pages-per-host", default=10_000, help="Most pages of one host.", **_COUNT),
        click.option("--pictures-per-page", default=100, help="Most pictures of one page.", **_COUNT),
        click.option("--other-hosts", is_flag=True, help="Follow links to other hosts than those of the start "
                     "addresses. Pictures may be on any host."),
        click.option("--hosts", default=64, help="Hosts at a time; each has one request at a time.", **_COUNT),
        click.option("--delay", "delay_s", default=1.0, help="Least time between two requests to one host. A host that "
                     "asks for more, or is slow, gets more.", **_SECONDS),
        click.option("--deadline", "deadline_s", default=60.0, help="Most time for one answer.", **_SECONDS),
        click.option("--retry", is_flag=True, help="Ask again for what failed."),
        click.option("--disable-rule", "disabled", metavar="NAME", multiple=True, help="A rule on captions or pictures "
                     "that is not applied. Repeatable."),
        click.option("--pairs-per-shard", default=10_000, **_COUNT),
    )):  # fmt: skip
        command = option(command)
    return command


@click.command("crawl")
@click.argument("start_urls", nargs=-1, required=True, metavar="START_URL...")
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False))
@crawl_options
@json_option
def command(start_urls: tuple[str, ...], out: str, as_json: bool, **given: Any) -> int:
    """Collect pictures with the words near them from web pages, from START_URLs on, into WebDataset shards in OUT.

    Each host is asked for its robots.txt first, and for one thing at a time. Reservations against training (noai,
    noimageai, tdm-reservation) are obeyed. Captions that a whole site repeats stay: `diptych collect filter` leaves
    them out. The same command goes on where an earlier one ended.

    \b
    diptych collect crawl https://example.org/ pairs/ --contact me@example.org
    """
    from diptych.collect.pages.crawl import crawl
    from diptych.collect.pages.limits import CrawlLimits

    names = ("depth", "pages", "pages_per_host", "pictures_per_page", "hosts", "delay_s", "deadline_s")
    limits = CrawlLimits(**{name: given.pop(name) for name in names})
    try:
        with interrupt_on_sigterm(), progress("crawling") as advance:
            done = crawl(start_urls, out, limits=limits, progress=lambda pages, _: advance(pages, 0), **given)
    except KeyboardInterrupt:
        print_error(f"Interrupted; what was finished is kept. Go on with: {_again(start_urls, out, given)}")
        return INTERRUPTED
    return _report(done, out, as_json)


def _report(done: CrawlResult, out: str, as_json: bool) -> int:
    """Print what became of everything; return the exit code."""
    if as_json:
        counts = {"pages": done.pages, "pictures": done.pictures, "words": done.words, "set_aside": done.set_aside}
        print_json({"out": out, "pages_now": done.pages_now, "pairs_now": done.pairs_now, "left": done.left, **counts})
    else:
        print_result(out, fold=False)
    print_status(f"{counted(done.pages_now, 'page')} read, {counted(done.pairs_now, 'pair')} written in this run")
    for title, counts in (("pages", done.pages), ("pictures", done.pictures), ("texts", {"refused": done.words})):
        for state in ("refused", "failed", "duplicate"):
            if told := _told(counts.get(state, {})):
                print_status(f"{title} {state}: {told}")
    for host, reason in done.set_aside.items():
        print_status(f"{host} is left for a later run: {reason}")
    if done.left:
        print_status(
            f"{counted(done.left, 'address', 'addresses')} left; the same command, or one with higher limits, goes on"
        )
    failed = any(counts.get("failed") for counts in (done.pages, done.pictures))
    if not done.pictures.get("done"):
        return NOTHING
    return PARTLY if failed or done.set_aside else OK


def _told(reasons: Mapping[str, int]) -> str:
    listed = sorted(reasons.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {reason}" for reason, count in listed)


def _again(start_urls: tuple[str, ...], out: str, given: dict[str, Any]) -> str:
    return shlex.join(["diptych", "collect", "crawl", *start_urls, out, "--contact", given["contact"]])
