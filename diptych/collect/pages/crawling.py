"""The crawl itself: for each host one request at a time, at the pace that it bears; what it permits is asked first."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from diptych.collect.addresses import netloc_of, normalized
from diptych.collect.pages.extraction import Page, read_page
from diptych.collect.pages.fetching import (
    NO_ANSWER,
    NO_PAGE,
    NO_PICTURE,
    NOT_FOUND,
    NOT_PUBLIC,
    PAGES,
    PICTURES,
    RULES,
    TIMED_OUT,
    TOO_LARGE,
    Answer,
)
from diptych.collect.pages.frontier import ENDLESS, Frontier, Job
from diptych.collect.pages.limits import CrawlLimits
from diptych.collect.pairs import Found, Pair, Picture, Words
from diptych.collect.permission.pace import HostPace, retry_after_s
from diptych.collect.permission.permissions import Permissions
from diptych.collect.permission.reservations import refusal_in_headers
from diptych.collect.permission.robots import MAX_REDIRECTS, UNREACHABLE
from diptych.collect.pictures.preparing import PictureRefused

_REDIRECTS = {301, 302, 303, 307, 308}
_LATER = {429, 500, 502, 503, 504}
_MOST_SILENT = 5  # requests in a row without an answer, after which a host is left for a later run
_FINAL = {NOT_FOUND, NOT_PUBLIC, TOO_LARGE, NO_PAGE, NO_PICTURE}  # another try would end the same
_SILENT = {NO_ANSWER, TIMED_OUT}
FORGOTTEN, DUPLICATE = "forgotten", "duplicate"
_TURN = 50  # requests to one host, after which another that waits has its turn


class Fetching(Protocol):
    """Asks for one address: `fetching.Fetcher`."""

    async def get(self, url: str, wanted: dict[str, str], most_bytes: int) -> Answer:
        """What came, whatever that was."""
        ...


class Pairs(Protocol):
    """Where pairs go, and what decides about them."""

    def words(self, found: Found) -> tuple[tuple[Words, ...], tuple[str, ...]]:
        """The usable words of a picture, and the rules that left others out."""
        ...

    async def prepare(self, content: bytes) -> Picture:
        """A picture as it is written. Raises PictureRefused."""
        ...

    def is_forgotten(self, url: str, sha256: str = "") -> bool:
        """Whether someone asked to have it removed."""
        ...

    def add(self, pair: Pair) -> None:
        """Write a pair: when this returns, it outlives the process."""
        ...


class Crawl:
    """One run over a frontier. `set_aside` has the hosts that are left for a later run, with the reason."""

    def __init__(
        self, frontier: Frontier, fetcher: Fetching, pairs: Pairs, limits: CrawlLimits, *,
        other_hosts: bool = False, progress: Callable[[int, int], object] | None = None,
    ):  # fmt: skip
        """Pages of the hosts of start addresses are asked for; with `other_hosts` those of all. Pictures may be
        anywhere. `progress` is called with the numbers of finished pages and pairs."""
        self._frontier, self._fetcher, self._pairs, self._limits = frontier, fetcher, pairs, limits
        self._start_hosts, self._other_hosts, self._progress = frontier.start_hosts(), other_hosts, progress
        self._permissions = Permissions()
        self._paces: dict[str, HostPace] = {}
        self._silent = Counter[str]()
        self._dead: dict[str, str] = {}  # hosts that are not there, with the reason
        self._running: dict[str, asyncio.Task[None]] = {}
        self._changed, self._is_stopping = asyncio.Event(), False
        self.set_aside: dict[str, str] = {}
        self.pages = self.written = 0

    def stop(self) -> None:
        """End soon: what is on its way is dropped, what is finished stays."""
        self._is_stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Crawl until nothing is left that may be asked for, or until `stop`."""
        try:
            while not self._is_stopping:
                self._changed.clear()
                self._end_those_done()
                self._start_hosts_that_wait()
                if not self._running:
                    return
                await self._changed.wait()
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _start_hosts_that_wait(self) -> None:
        for host in self._frontier.hosts - self._running.keys() - self.set_aside.keys():
            if len(self._running) >= self._limits.hosts:
                return
            task = self._running[host] = asyncio.create_task(self._serve(host))
            task.add_done_callback(lambda _: self._changed.set())

    def _end_those_done(self) -> None:
        for host, task in [*self._running.items()]:
            if task.done():
                del self._running[host]
                task.result()

    async def _serve(self, host: str) -> None:
        """Ask one host for what waits, one after another."""
        for _ in range(_TURN):
            if host in self.set_aside or (job := self._frontier.next(host)) is None:
                return
            await self._take(job)
            self._changed.set()  # it may have named new hosts
            if self._progress is not None:
                self._progress(self.pages, self.written)

    async def _take(self, job: Job) -> None:
        if self._pairs.is_forgotten(job.url):
            self._frontier.leave_out(job, "refused", FORGOTTEN)
        elif job.kind == "page" and self._frontier.is_endless(job):
            self._frontier.leave_out(job, "refused", ENDLESS)
        elif (refusal := await self._refusal(job.url)) is not None:
            host = netloc_of(job.url)
            if host not in self.set_aside:
                state = "failed" if refusal == UNREACHABLE else "refused"
                self._frontier.leave_out(job, state, self._dead.get(host, refusal))
        else:
            wanted, most = (
                (PAGES, self._limits.page_bytes) if job.kind == "page" else (PICTURES, self._limits.picture_bytes)
            )
            await self._take_answer(job, await self._ask(job.url, wanted, most))

    async def _refusal(self, url: str) -> str | None:
        """The reason for which the host does not permit this; its rules are asked for first, if they are not known."""
        while address := self._permissions.missing(url):
            answer = await self._rules(address)
            if address.endswith("/robots.txt") and _is_later(answer):
                self.set_aside[netloc_of(url)] = f"{UNREACHABLE} ({answer.reason or answer.status})"
                return UNREACHABLE
            if answer.status == 0:
                self._dead[netloc_of(url)] = answer.reason
            self._permissions.learn(address, answer.body, answer.status)
            self._pace(url).ask_for(self._permissions.delay_s(url))
        return self._permissions.refusal(url)

    async def _rules(self, address: str) -> Answer:
        """The answer for a file of rules. A redirect to the same file elsewhere is followed; one to anything else, such
        as the first page, says that there is none."""
        url, redirects, tries = address, 0, 0
        while True:
            answer = await self._ask(url, RULES, 0)
            if answer.status in _REDIRECTS:
                to = normalized(answer.headers.get("location", ""), url, is_page=False)
                redirects += 1
                if to is None or urlsplit(to).path != urlsplit(address).path or redirects > MAX_REDIRECTS:
                    return Answer(404)
                url = to
                continue
            tries += 1
            if not _is_later(answer) or tries >= self._limits.tries or netloc_of(url) in self.set_aside:
                return answer

    async def _ask(self, url: str, wanted: dict[str, str], most_bytes: int) -> Answer:
        """Ask when the host's pace allows it, and note how it bore that."""
        host, pace = netloc_of(url), self._pace(url)
        while (wait_s := pace.wait_s(time.monotonic())) > 0:
            await asyncio.sleep(wait_s)
        begun = time.monotonic()
        pace.begin(begun)
        answer = await self._fetcher.get(url, wanted, most_bytes)
        now = time.monotonic()
        is_loaded = answer.status == 0 and answer.reason in _SILENT
        retry_after = answer.headers.get("retry-after", "")
        pace.end(now, now - begun, 0 if is_loaded else answer.status or 400, retry_after)
        self._silent[host] = self._silent[host] + 1 if is_loaded else 0
        if self._silent[host] >= _MOST_SILENT:
            self.set_aside[host] = answer.reason
        if answer.status in _LATER and (retry_after_s(retry_after) or 0.0) > self._limits.patience_s:
            self.set_aside[host] = f"Retry-After: {retry_after:.40}"
        return answer

    def _pace(self, url: str) -> HostPace:
        return self._paces.setdefault(netloc_of(url), HostPace(self._limits.delay_s))

    async def _take_answer(self, job: Job, answer: Answer) -> None:
        if answer.status in _REDIRECTS:
            self._redirect(job, answer.headers.get("location", ""))
        elif _is_later(answer) and answer.reason != TIMED_OUT:  # the deadline is for all tries
            self._frontier.postpone(job, answer.reason or str(answer.status))
        elif not 200 <= answer.status < 300 or answer.reason:
            self._frontier.leave_out(job, "failed", answer.reason or str(answer.status))
        elif refusal := refusal_in_headers(answer.headers):
            self._frontier.leave_out(job, "refused", refusal)
        elif job.kind == "page":
            await self._take_page(job, answer)
        else:
            await self._take_picture(job, answer)

    def _redirect(self, job: Job, location: str) -> None:
        to = normalized(urljoin(job.url, location), job.url, is_page=job.kind == "page") if location else None
        if to is None:
            self._frontier.leave_out(job, "failed", "redirect to nowhere")
        elif job.kind == "page" and job.depth > 0 and not self._is_inside(to):
            self._frontier.leave_out(job, "refused", "other host")
        else:
            if job.kind == "page" and job.depth == 0:  # example.org becomes www.example.org
                self._start_hosts |= {netloc_of(to)}
            self._frontier.redirect(job, to)

    def _is_inside(self, url: str) -> bool:
        return self._other_hosts or netloc_of(url) in self._start_hosts

    async def _take_page(self, job: Job, answer: Answer) -> None:
        self._frontier.begin(job)
        page = await asyncio.to_thread(read_page, answer.body, job.url, headers=answer.headers, time_s=time.time())
        if page.refusal is not None:
            self._frontier.leave_out(job, "refused", page.refusal)
            return
        found, refused = self._usable(page)
        self._frontier.finish_page(
            job,
            digest=hashlib.blake2b(answer.body, digest_size=16).digest(),
            found=found,
            links=[url for url in page.links if self._is_inside(url)],
            refused=refused,
        )
        self.pages += 1

    def _usable(self, page: Page) -> tuple[list[Found], list[str]]:
        """The pictures with words that describe them; a picture without any is not asked for."""
        kept, refused = list[Found](), list[str]()
        for found in page.found:
            words, reasons = self._pairs.words(found)
            refused += reasons
            if words and len(kept) < self._limits.pictures_per_page:
                kept.append(Found(found.picture_url, words, *_rest(found)))
        return kept, refused

    async def _take_picture(self, job: Job, answer: Answer) -> None:
        assert job.found is not None
        sha256 = hashlib.sha256(answer.body).hexdigest()
        if self._frontier.has_content(sha256):
            self._frontier.leave_out(job, "duplicate", DUPLICATE)
        elif self._pairs.is_forgotten(job.url, sha256):
            self._frontier.leave_out(job, "refused", FORGOTTEN)
        else:
            try:
                picture = await self._pairs.prepare(answer.body)
            except PictureRefused as error:
                self._frontier.leave_out(job, "refused", error.reason)
                return
            if self._frontier.has_content(sha256):  # another host's came meanwhile
                self._frontier.leave_out(job, "duplicate", DUPLICATE)
                return
            self._pairs.add(Pair(picture, job.found.words, job.found))
            self._frontier.finish_picture(job, sha256)
            self.written += 1


def _is_later(answer: Answer) -> bool:
    """Whether another try may end otherwise."""
    return answer.status in _LATER or (answer.status == 0 and answer.reason not in _FINAL)


def _rest(found: Found) -> tuple[str, str, str, float]:
    return found.page_url, found.language, found.licence, found.time_s
