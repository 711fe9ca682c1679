"""The process in which Scrapy runs: Twisted's reactor can be started once in a process, and takes the signals of the
one that it runs in. The first line on stdin is the order; the end of stdin, or a second line, ends the crawl."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import scrapy
from scrapy.crawler import AsyncCrawlerProcess

from diptych.collect.output.shard_writer import ShardWriter
from diptych.collect.pages.child.pair_output import PairOutput, note_run, note_written
from diptych.collect.pages.crawling import Crawl
from diptych.collect.pages.fetching import Fetcher, kinds_of, settings
from diptych.collect.pages.frontier import Frontier
from diptych.collect.pages.limits import CrawlLimits
from diptych.errors import DiptychError
from diptych.media.reading.reader_process import send_answer
from diptych.storage.lock import locked

_WAIT_S = 20.0  # for the process of a run that was killed: it notices within moments


@dataclass
class _Run:
    """What the spider is given and gives back."""

    frontier: Frontier
    pairs: PairOutput
    limits: CrawlLimits
    order: dict[str, Any]
    progress: Callable[[int, int], object]
    stopped: threading.Event
    crawl: Crawl | None = None
    error: BaseException | None = None
    stoppers: list[Callable[[], object]] = field(default_factory=list)


class _Spider(scrapy.Spider):
    """Gives Scrapy nothing to schedule: it awaits the crawl, which uses Scrapy's downloader."""

    name = "diptych"
    run: _Run

    async def start(self) -> AsyncIterator[Any]:
        run = self.run
        try:
            run.crawl = Crawl(
                run.frontier, Fetcher(self.crawler, run.limits.deadline_s), run.pairs, run.limits,
                other_hosts=run.order["other_hosts"],
                progress=run.progress,
            )  # fmt: skip
            loop, crawl = asyncio.get_running_loop(), run.crawl
            run.stoppers.append(lambda: loop.call_soon_threadsafe(crawl.stop))
            if run.stopped.is_set():
                return
            await crawl.run()
        except BaseException as error:
            run.error = error
        finally:
            await run.pairs.close()
        return
        yield  # makes this an iterator, as Scrapy wants it


def main() -> None:
    """Take the order, crawl, and send how far it is, and at last what came of it."""
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not disturb the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells
    order = json.loads(orders.readline())
    send_answer(answers, {"ready": True})
    stopped, stoppers = threading.Event(), list[Callable[[], object]]()
    threading.Thread(target=_listen, args=(orders, stopped, stoppers), daemon=True).start()
    try:
        answer = {"result": _crawl(order, answers, stopped, stoppers)}
    except DiptychError as error:
        answer = {"error": [type(error).__name__, str(error)]}
    except OSError as error:
        answer = {"error": ["OSError", str(error)], "errno": error.errno}
    except BaseException:
        answer = {"broken": traceback.format_exc()}
    send_answer(answers, answer)


def _listen(orders: IO[bytes], stopped: threading.Event, stoppers: list[Callable[[], object]]) -> None:
    orders.readline()  # a line, or the end: the parent is gone
    stopped.set()
    for stop in stoppers:
        stop()


def _crawl(
    order: dict[str, Any], answers: IO[bytes], stopped: threading.Event, stoppers: list[Callable[[], object]]
) -> dict[str, Any]:
    started_s = time.time()
    out, limits = Path(order["out"]), CrawlLimits(**order["limits"])
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(
            locked(out / ".crawl.lock", wait_s=_WAIT_S, does=f"is crawling into {out}", remedy="Try again later.")
        )
        frontier = Frontier(out, limits)
        stack.callback(frontier.close)
        note_written(out, frontier.note_written)
        if order["retry"]:
            frontier.retry()
        frontier.add_pages(order["urls"], 0)
        writer = stack.enter_context(ShardWriter(out, pairs_per_shard=order["pairs_per_shard"]))
        pairs = PairOutput(out, writer, size=order["size"], disabled=order["disabled"])

        def progress(pages: int, written: int) -> None:
            send_answer(answers, {"pages": pages, "pairs": written})

        run = _Run(frontier, pairs, limits, order, progress, stopped, stoppers=stoppers)
        _run_scrapy(run)
        assert run.crawl is not None
        result = {
            "pages": frontier.counts("page"), "pictures": frontier.counts("picture"),
            "words": frontier.refused_words(), "set_aside": run.crawl.set_aside,
            "pages_now": run.crawl.pages, "pairs_now": run.crawl.written, "stopped": stopped.is_set(),
        }  # fmt: skip
        note_run(order, result, started_s)
        return result


def _run_scrapy(run: _Run) -> None:
    made = settings(run.order["user_agent"], kinds_of(run.order["urls"]), run.limits.hosts)
    process = AsyncCrawlerProcess(made)
    spider = type("Spider", (_Spider,), {"run": run})
    process.crawl(spider)
    process.start(stop_after_crawl=True, install_signal_handlers=False)
    if run.error is not None:
        raise run.error
