"""Whose turn it is: addresses by host, so that no host is asked too often or by too many at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from diptych.collect.permission.pace import HostPace

_MOST_HOSTS = 100_000
AT_ONCE_S = 0.005  # shorter pauses are no pauses: the number of requests at a time bounds the rate then


@dataclass
class Job:
    """An address to ask: the number of the listed one that led to it, how many redirects and tries there were, the
    seconds that are left for it, and the time of `time.monotonic` until which it is of use. `is_owned` None: as its
    host says; False: a stranger's redirect leads there."""

    id: int
    url: str
    until_s: float
    left_s: float
    hops: int = 0
    tries: int = 0
    is_owned: bool | None = None


@dataclass
class Host:
    """A host: the jobs that wait for it, how many are under way, how often in a row nothing came from it, and why it is
    given up: a reason and a message."""

    name: str
    pace: HostPace
    jobs: deque[Job] = field(default_factory=deque)
    running: int = 0
    misses: int = 0
    given_up: tuple[str, str] | None = None
    is_learning: bool = False
    is_offered: bool = False


class HostQueue:
    """Hands out jobs: of one host at most `per_host` at a time, and with the pauses of its `HostPace`. A host whose
    rules are being asked for gets nothing else. A host that has begun goes first, while its connections are open."""

    def __init__(self, per_host: int, delay_s: float):
        self._per_host, self._delay_s = per_host, delay_s
        self._hosts: dict[str, Host] = {}
        self._ready: deque[Host] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()

    def put(self, name: str, job: Job, *, first: bool = False) -> None:
        """Add a job for a host, behind its others or `first`."""
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= _MOST_HOSTS:
                self._prune()
            host = self._hosts[name] = Host(name, HostPace(self._delay_s, concurrency=self._per_host))
        (host.jobs.appendleft if first else host.jobs.append)(job)
        self.offer(host)

    async def take(self) -> tuple[Host, Job]:
        """The next job; call `give_back` when it is done."""
        while True:
            while self._ready:
                host = self._ready.popleft()
                host.is_offered = False
                if self._may_start(host):
                    job = host.jobs.popleft()
                    host.running += 1
                    host.pace.begin(time.monotonic())
                    self.offer(host, first=True)
                    return host, job
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done():
                    self._wake()  # another has its turn
                raise

    def another(self, host: Host) -> Job | None:
        """One more job of a host that was taken and had nothing to ask."""
        return host.jobs.popleft() if host.jobs else None

    def give_back(self, host: Host) -> None:
        """A job of this host is done."""
        host.running -= 1
        self.offer(host, first=True)

    def offer(self, host: Host, *, first: bool = False) -> None:
        """Have the host taken when it may be, now or after its pause."""
        if host.is_offered or not self._has_turn(host):
            return
        host.is_offered = True
        if (wait_s := self._wait_s(host)) > AT_ONCE_S:
            asyncio.get_running_loop().call_later(wait_s, self._enter, host, first)
        else:
            self._enter(host, first)

    def give_up(self, host: Host, reason: str, message: str) -> None:
        """Nothing more is asked of this host: its jobs are handed out at once, without its pauses."""
        host.given_up, host.is_offered = (reason, message), False
        self.offer(host)

    def _wait_s(self, host: Host) -> float:
        """Seconds until a host's next job may start, or is of no use any more."""
        if host.given_up:
            return 0.0
        now = time.monotonic()
        return min(host.pace.wait_s(now), max(0.0, host.jobs[0].until_s - now))

    def _enter(self, host: Host, first: bool) -> None:
        (self._ready.appendleft if first else self._ready.append)(host)
        self._wake()

    def _wake(self) -> None:
        while self._idle:
            if not (waiter := self._idle.popleft()).done():
                waiter.set_result(None)
                return

    def _has_turn(self, host: Host) -> bool:
        return bool(host.jobs) and host.running < self._per_host and not host.is_learning

    def _may_start(self, host: Host) -> bool:
        """Also whether its pause is over, which an answer may have made longer since it was offered."""
        if not self._has_turn(host):
            return False
        if self._wait_s(host) <= AT_ONCE_S:
            return True
        self.offer(host)
        return False

    def _prune(self) -> None:
        """Forget hosts that have nothing to do and no pause to keep."""
        now = time.monotonic()
        for name, host in list(self._hosts.items()):
            if not host.jobs and not host.running and not host.given_up and not host.pace.wait_s(now):
                del self._hosts[name]
