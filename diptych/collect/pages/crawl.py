"""Crawling from start addresses into shards: what callers use."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diptych import errors
from diptych.collect.addresses import normalized
from diptych.collect.pages.limits import CrawlLimits
from diptych.collect.permission.agent import user_agent
from diptych.errors import ArgumentError, DiptychError, ReaderProcessError
from diptych.extras import require
from diptych.media.reading.child_process import ChildProcess

_STOP_S = 1.0  # a command has two seconds after a signal
_PROCESS = "diptych.collect.pages.child.crawl_process"
Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class CrawlResult:
    """What became of all pages and pictures that are known, by state and reason; of texts, by the rule that left them
    out; and of hosts that are left for a later run. `pages_now` and `pairs_now` are of this run. `is_stopped`: it was
    interrupted."""

    pages: Counts
    pictures: Counts
    words: Mapping[str, int]
    set_aside: Mapping[str, str]
    pages_now: int
    pairs_now: int
    is_stopped: bool = False

    @property
    def left(self) -> int:
        """Addresses that wait for a later run."""
        return sum(sum(each.get("queued", {}).values()) for each in (self.pages, self.pictures))


def crawl(
    start_urls: Sequence[str], out: str | os.PathLike[str], *, contact: str, size: int | None = None,
    limits: CrawlLimits | None = None, other_hosts: bool = False, retry: bool = False, disabled: Collection[str] = (),
    pairs_per_shard: int = 10_000,
    progress: Callable[[int, int], object] | None = None,
) -> CrawlResult:  # fmt: skip
    """Collect pairs from pages, from these addresses on, into WebDataset shards in `out`.

    Each host's robots.txt and reservations against training are asked for before anything else of it, and obeyed for
    every page, picture and redirect. `contact`, an e-mail address or a page, is part of every request. Pages of other
    hosts than those of `start_urls` are left out unless `other_hosts`; pictures may be on any host. The same call goes
    on where an earlier one ended, in whatever way, and asks for no finished page again; `retry` asks again for what
    failed. `size` is the shorter side of pictures that are larger, in px. KeyboardInterrupt ends the crawl and keeps
    what is finished. `progress` is called with the pages and pairs of this run.

    Raises ArgumentError for addresses and contacts that are none, IndexBusyError where another process crawls into
    `out`, and OSError where `out` cannot be written.
    """
    require("crawling", "scrapy", "protego", "resiliparse", "pyarrow")
    order = order_of(
        start_urls, out, contact=contact, size=size, limits=limits, other_hosts=other_hosts, retry=retry,
        disabled=disabled, pairs_per_shard=pairs_per_shard,
    )  # fmt: skip
    child = ChildProcess(order, program=_PROCESS)
    try:
        child.wait_until_ready()
        result = _result(_listen(child, progress))
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            child.send({"stop": True})
        deadline_s = time.monotonic() + _STOP_S
        while child.is_running() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        raise  # it completes its shard and ends by itself
    except BaseException:
        child.end()
        raise
    child.end()
    return result


def order_of(
    start_urls: Sequence[str], out: str | os.PathLike[str], *, contact: str, limits: CrawlLimits | None = None,
    size: int | None = None, other_hosts: bool = False, retry: bool = False, disabled: Collection[str] = (),
    pairs_per_shard: int = 10_000,
) -> dict[str, Any]:  # fmt: skip
    """The arguments of `crawl`, checked, as the crawling process takes them."""
    urls = [_start(url) for url in start_urls]
    if not urls:
        raise ArgumentError("no address to start from; wanted at least one.", argument="start_urls")
    from diptych.collect.pages.child.pair_output import caption_rules

    caption_rules(disabled)  # a name that no rule has is told before the work
    return {
        "urls": urls, "out": str(Path(out).absolute()), "user_agent": user_agent(contact), "size": size,
        "limits": asdict(limits or CrawlLimits()), "other_hosts": other_hosts, "retry": retry,
        "disabled": [*disabled], "pairs_per_shard": pairs_per_shard,
    }  # fmt: skip


def _start(url: str) -> str:
    found = normalized(url)
    if found is None:
        raise ArgumentError(
            f"{url!r:.200} is no http or https address; wanted one to start from.", argument="start_urls"
        )
    return found


def _listen(child: ChildProcess, progress: Callable[[int, int], object] | None) -> dict[str, Any]:
    """Pass on how far it is, and return its last answer."""
    while True:
        try:
            answer, _ = child.receive(math.inf)
        except (OSError, EOFError, ValueError) as error:
            raise ReaderProcessError(
                f"the crawling process ended ({child.end()}); its output is above.",
                remedy="The same command goes on where it ended.",
            ) from error
        if "pages" not in answer:
            return answer
        if progress is not None:
            progress(answer["pages"], answer["pairs"])


def _result(answer: dict[str, Any]) -> CrawlResult:
    if "broken" in answer:
        raise ReaderProcessError(f"the crawling process failed:\n{answer['broken']}")
    if "errno" in answer:
        raise OSError(answer["errno"], answer["error"][1])
    if "error" in answer:
        name, message = answer["error"]
        kind = getattr(errors, name, DiptychError)
        raise kind(message) if issubclass(kind, DiptychError) else DiptychError(message)
    result = answer["result"]
    return CrawlResult(is_stopped=result.pop("stopped"), **result)
