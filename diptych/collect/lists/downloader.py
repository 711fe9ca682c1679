"""Asks for many addresses at a time, each as its host permits, and hands out prepared pictures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from diptych.collect.addresses import host_of, origin_of
from diptych.collect.lists.addresses import Resolver, listed
from diptych.collect.lists.host_queue import AT_ONCE_S, Host, HostQueue, Job
from diptych.collect.lists.ledger import Outcome, State, Waiting
from diptych.collect.lists.preparers import Preparers
from diptych.collect.lists.transport import Answer, Transport, Undelivered
from diptych.collect.pairs import Picture
from diptych.collect.permission.permissions import Permissions
from diptych.collect.permission.reservations import refusal_in_headers
from diptych.collect.permission.robots import MAX_REDIRECTS
from diptych.collect.pictures.preparing import PictureRefused
from diptych.errors import ArgumentError, FetchError

_REDIRECTS = {301, 302, 303, 307, 308}
_TOO_MUCH = {429, 503}
_MISSES = 3  # in a row, after which a host is given up for this run
_MAX_RULES_BYTES = 4 << 20
Portions = Callable[[int], Awaitable[list[Waiting]]]


@dataclass(frozen=True)
class Limits:
    """Requests at a time: in all, and of one host; seconds between two of one host at least; seconds for an address in
    all, from the first request with its redirects, and for a portion of so many addresses; bytes of a picture, and of
    all pictures in memory; redirects; tries of an address whose host says "too much"."""

    requests: int = 512
    per_host: int = 4
    delay_s: float = 0.0
    url_s: float = 30.0
    portion_s: float = 3600.0
    portion: int = 10_000
    max_bytes: int = 32 << 20
    memory_bytes: int = 256 << 20
    redirects: int = 5
    tries: int = 3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name not in ("delay_s", "redirects")):
                raise ArgumentError(f"{name}={value}; wanted a number above 0.", argument=name)


class Delivery(NamedTuple):
    """What became of an address: its picture, or else its outcome; and the bytes of room that are held for it."""

    outcome: Outcome
    url: str
    picture: Picture | None = None
    held: int = 0


class Downloader:
    """One run. `deliver` is called for each address, once; `is_forgotten` says of an address that nothing of it may be
    fetched any more."""

    def __init__(
        self, transport: Transport, resolver: Resolver, permissions: Permissions, preparers: Preparers, limits: Limits,
        deliver: Callable[[Delivery], None], is_forgotten: Callable[[str], bool] = lambda url: False,
    ):  # fmt: skip
        self._transport, self._reach, self._permissions = transport, resolver.reach, permissions
        self._preparers, self._limits, self._deliver, self._is_forgotten = preparers, limits, deliver, is_forgotten
        self._queue = HostQueue(limits.per_host, limits.delay_s)
        self._left = 0
        self._moved = asyncio.Event()
        self._group = asyncio.TaskGroup()

    async def run(self, portions: Portions) -> None:
        """Ask for all addresses that `portions(after)` gives until it gives none."""
        async with self._group:
            workers = [self._group.create_task(self._work()) for _ in range(self._limits.requests)]
            after = 0
            while portion := await portions(after):
                after = portion[-1].id
                until_s = time.monotonic() + self._limits.portion_s
                for number, url in portion:
                    self._left += 1
                    self._queue.put(host_of(url), Job(number, url, until_s, self._limits.url_s))
                await self._until_left(self._limits.portion)  # so that other hosts come while slow ones go on
            await self._until_left(0)
            for worker in workers:
                worker.cancel()

    async def _until_left(self, number: int) -> None:
        while self._left > number:
            self._moved.clear()
            await self._moved.wait()

    async def _work(self) -> None:
        while True:
            host, job = await self._queue.take()
            try:
                await self._ask(host, job)
            finally:
                self._queue.give_back(host)
            if not host.jobs and not host.running:
                await self._transport.forget(origin_of(job.url))

    async def _ask(self, host: Host, job: Job) -> None:
        """Use this turn of the host for the first of its jobs that needs a request."""
        turn: Job | None = job
        try:
            while turn is not None and (ended := await self._ended(host, turn)):
                self._end(turn, *ended)
                turn = self._queue.another(host)
            if turn is not None and host.is_learning:  # the turn went to a request for the rules
                await _pause(host, turn.until_s)
                host.pace.begin(time.monotonic())
        finally:
            if host.is_learning:
                host.is_learning = False
                self._queue.offer(host)  # for its other jobs, which need not wait for the end of this one
        if turn is not None:
            await self._get(host, turn)

    async def _ended(self, host: Host, job: Job) -> tuple[State, str, str] | None:
        """State, reason and detail of a job that needs no request any more."""
        if host.given_up:
            return State.FAILED, *host.given_up
        if time.monotonic() > job.until_s:
            return State.FAILED, "portion's time", "its portion of the list took too long"
        if self._is_forgotten(job.url):
            return State.REFUSED, "forgotten", "someone asked to have it removed"
        if refusal := await self._refusal(host, job):
            given_up = self._given_up(host)
            return (State.FAILED, *given_up) if given_up else (State.REFUSED, refusal, "")
        return None

    def _given_up(self, host: Host) -> tuple[str, str] | None:  # for the type checker, which knows of no other task
        return host.given_up

    # --- what the host permits

    async def _refusal(self, host: Host, job: Job) -> str | None:
        while (address := self._permissions.missing(job.url)) is not None:
            host.is_learning = True  # until `_ask` has a request to make: nothing else is asked of the host meanwhile
            await self._learn(host, address, job.until_s)
            if host.given_up:
                return host.given_up[0]
            host.pace.ask_for(self._permissions.delay_s(job.url))
        return self._permissions.refusal(job.url)

    async def _learn(self, host: Host, address: str, until_s: float) -> None:
        """Fetch a host's rules, after redirects wherever they lead (RFC 9309, section 2.3.1.2)."""
        url, is_owned = address, None
        for _ in range(MAX_REDIRECTS + 1):
            await _pause(host, until_s)
            host.pace.begin(began := time.monotonic())
            try:
                answer = await self._transport.get(
                    url, max_bytes=_MAX_RULES_BYTES, seconds=self._limits.url_s, is_owned=is_owned
                )
            except Undelivered as error:
                host.pace.end(now := time.monotonic(), now - began, 0)
                if error.is_of_host and url == address:
                    self._queue.give_up(host, error.reason, f"{address}: {error.message}")
                else:
                    self._permissions.learn(address, b"", 0)
                return
            self._transport.room.release(len(answer.body))
            host.pace.end(now := time.monotonic(), now - began, answer.status, answer.headers.get("retry-after", ""))
            if answer.status not in _REDIRECTS or not (to := answer.headers.get("location")):
                self._permissions.learn(address, answer.body, 0 if answer.unwanted else answer.status)
                return
            try:
                url, is_owned = listed(to, within=url), False
            except FetchError:
                break
        self._permissions.learn(address, b"", 404)  # more than five redirects: as if it were not there

    # --- the picture

    async def _get(self, host: Host, job: Job) -> None:
        await self._transport.room.open()
        began = time.monotonic()
        seconds = min(job.left_s, max(0.1, job.until_s - began))
        is_last = not host.jobs and host.running == 1
        try:
            answer = await self._transport.get(
                job.url, max_bytes=self._limits.max_bytes, seconds=seconds, is_last=is_last, is_owned=job.is_owned
            )
        except Undelivered as error:
            host.pace.end(now := time.monotonic(), now - began, 0)
            self._missed(host, replace(job, left_s=max(0.1, job.left_s - (now - began))), error)
            return
        took = time.monotonic() - began
        host.pace.end(time.monotonic(), took, answer.status, answer.headers.get("retry-after", ""))
        host.misses = 0
        self._received(host, replace(job, left_s=max(0.1, job.left_s - took)), answer)

    def _missed(self, host: Host, job: Job, error: Undelivered) -> None:
        host.misses += error.is_of_host
        if host.misses >= _MISSES and not host.given_up:
            message = f"{host.name} was given up after {host.misses} failures: {error.message}"
            self._queue.give_up(host, error.reason, message)
        if error.is_passing and not job.tries:
            self._queue.put(host.name, replace(job, tries=1))
        else:
            self._end(job, State.FAILED, error.reason, error.message)

    def _received(self, host: Host, job: Job, answer: Answer) -> None:
        status, held = answer.status, len(answer.body)
        if reason := refusal_in_headers(answer.headers):
            self._end(job, State.REFUSED, reason, "in the answer's headers", held)
        elif status in _REDIRECTS and (to := answer.headers.get("location")):
            self._redirect(job, to)
        elif status in _TOO_MUCH and job.tries < self._limits.tries:
            self._queue.put(host.name, replace(job, tries=job.tries + 1), first=True)
        elif status != 200:
            self._end(job, State.FAILED, f"HTTP {status}", "", held)
        elif answer.unwanted:
            self._end(job, State.FAILED, answer.unwanted, f"wanted at most {self._limits.max_bytes:,} bytes", held)
        else:
            self._group.create_task(self._prepare(job, answer.body))

    def _redirect(self, job: Job, to: str) -> None:
        """The target is asked like a listed address: by its own host's rules, pace and address."""
        if job.hops >= self._limits.redirects:
            self._end(job, State.FAILED, "redirects", f"there were more than {self._limits.redirects} redirects")
            return
        try:
            url = listed(to, within=job.url)
        except FetchError as error:
            self._end(job, State.FAILED, error.reason, f"it leads to {error}")
            return
        is_owned = None if job.is_owned is None and self._reach.owns(host_of(job.url)) else False
        self._queue.put(host_of(url), replace(job, url=url, hops=job.hops + 1, is_owned=is_owned), first=True)

    async def _prepare(self, job: Job, body: bytes) -> None:
        held = len(body)
        try:
            picture = await self._preparers.prepare(body)
        except PictureRefused as refused:
            self._end(job, State.FAILED, refused.reason, refused.message, held)
            return
        self._end(job, State.DONE, held=held, picture=picture)

    def _end(
        self, job: Job, state: State, reason: str = "", detail: str = "", held: int = 0, picture: Picture | None = None
    ) -> None:
        if job.hops and detail:
            detail = f"{job.url:.200}: {detail}"
        self._deliver(Delivery(Outcome(job.id, state, reason, detail), job.url, picture, held))
        self._left -= 1
        self._moved.set()


async def _pause(host: Host, until_s: float) -> None:
    """Wait until the next request to this host may start, or until it is of no use any more."""
    while (wait_s := min(host.pace.wait_s(now := time.monotonic()), until_s - now)) > AT_ONCE_S:
        await asyncio.sleep(wait_s)
