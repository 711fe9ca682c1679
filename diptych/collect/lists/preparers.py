"""Child processes that decode and resize pictures, so that the event loop goes on and a decoder's crash costs its
picture alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Collection
from typing import Any, NamedTuple

from diptych.collect.pairs import Picture
from diptych.collect.pictures.preparing import PictureRefused
from diptych.errors import ReaderProcessError
from diptych.media.reading.child_process import command_line, process_options
from diptych.media.reading.reader_process import LENGTHS

_PROGRAM = "diptych.collect.lists.preparing_process"
_AHEAD = 2  # pictures that a process has: one that it decodes, and the next
_START_S = 120.0  # for a process's imports on a busy machine
_MOST_JSON, _MOST_BYTES = 1 << 20, 1 << 30  # of an answer; a process that announces more is broken
MEMORY_BYTES = 2 << 30  # of address space of each process
LIMIT_S = 60.0  # for a picture
_PIPE_BYTES = 1 << 20
# A C library that gives each decoded picture's memory back to the system has all its pages zeroed again for the next:
# a tenth of the time for a picture of 512 px. glibc reads these, and keeps up to so much.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}


class _Order(NamedTuple):
    content: bytes
    done: asyncio.Future[Picture]


class Preparers:
    """A number of processes, started by `start` or when the first picture comes."""

    def __init__(self, processes: int, *, size: int | None = None, disabled: Collection[str] = ()):
        """`size` and the `disabled` rules are those of `prepare`."""
        settings = {"memory_bytes": MEMORY_BYTES, "size": size, "disabled": sorted(disabled)}
        self._all = [_Preparer(settings) for _ in range(processes)]
        self._free: asyncio.Queue[_Preparer] = asyncio.Queue()
        for each in self._all * _AHEAD:
            self._free.put_nowait(each)

    async def start(self) -> None:
        """Start all processes, whose imports take as long as many pictures. Raises ReaderProcessError if that fails."""
        await asyncio.gather(*(each.start() for each in self._all))

    async def prepare(self, content: bytes) -> Picture:
        """As `diptych.collect.pictures.preparing.prepare`. Raises PictureRefused, and ReaderProcessError if processes
        cannot be started."""
        preparer = await self._free.get()
        try:
            return await preparer.prepare(content)
        finally:
            self._free.put_nowait(preparer)

    async def close(self) -> None:
        """End the processes."""
        for each in self._all:
            await each.close()


class _Preparer:
    """One process, which is replaced when it dies: the picture that it had in hand is refused."""

    def __init__(self, settings: dict[str, Any]):
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._orders: deque[_Order] = deque()
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start the process unless it runs."""
        async with self._starting:
            if self._process is None:
                await self._start()

    async def prepare(self, content: bytes) -> Picture:
        await self.start()
        order = _Order(content, asyncio.get_running_loop().create_future())
        self._orders.append(order)
        await self._send(order)
        return await order.done

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        await self._end()

    async def _start(self) -> None:
        pipe, options = asyncio.subprocess.PIPE, process_options()
        self._process = await asyncio.create_subprocess_exec(
            *command_line(_PROGRAM), stdin=pipe, stdout=pipe, limit=1 << 20,
            **{**options, "env": {**_KEPT_MEMORY, **options["env"]}},
        )  # fmt: skip
        assert self._process.stdin is not None
        _widen(self._process.stdin)
        self._process.stdin.write(json.dumps(self._settings).encode() + b"\n")
        try:
            async with asyncio.timeout(_START_S):
                facts, _ = await self._answer()
        except (EOFError, OSError, TimeoutError) as error:
            raise ReaderProcessError(f"a preparing process did not start ({await self._end()}).") from error
        if "broken" in facts:
            raise ReaderProcessError(f"a preparing process did not start:\n{facts['broken']}")
        self._reader = asyncio.create_task(self._receive())

    async def _send(self, order: _Order) -> None:
        if self._process is None or self._process.stdin is None:
            return  # it died: who replaces it sends what was waiting
        head = json.dumps({"bytes": len(order.content), "limit_s": LIMIT_S}).encode() + b"\n"
        self._process.stdin.writelines((head, order.content))
        with contextlib.suppress(OSError):  # it died: the reader sees it
            await self._process.stdin.drain()

    async def _receive(self) -> None:
        """Hand out answers in the order of the pictures; after the process's end go on with another."""
        while True:
            try:
                async with asyncio.timeout(LIMIT_S if self._orders else None) as limit:
                    facts, content = await self._answer(limit)
            except (EOFError, OSError, ValueError, TimeoutError) as error:
                await self._replace(overdue=isinstance(error, TimeoutError))
                return
            order = self._orders.popleft()
            if order.done.done():  # who waited was cancelled
                continue
            if "refused" in facts:
                order.done.set_exception(PictureRefused(*map(str, facts["refused"])))
            else:
                order.done.set_result(Picture(content, **facts))

    async def _replace(self, *, overdue: bool) -> None:
        ended = await self._end()
        if self._orders:
            reason = f"it took longer than {LIMIT_S:.0f} s to decode" if overdue else f"its decoder ended ({ended})"
            if not (first := self._orders.popleft()).done.done():
                first.done.set_exception(PictureRefused("decoder ended", f"{reason.capitalize()}; wanted a picture."))
        async with self._starting:
            try:
                await self._start()
            except ReaderProcessError as error:
                while self._orders:
                    if not (order := self._orders.popleft()).done.done():
                        order.done.set_exception(error)
                return
        for order in list(self._orders):
            await self._send(order)

    async def _answer(self, limit: asyncio.Timeout | None = None) -> tuple[dict[str, Any], bytes]:
        assert self._process is not None
        stdout = self._process.stdout
        assert stdout is not None
        json_bytes, content_bytes = LENGTHS.unpack(await stdout.readexactly(LENGTHS.size))
        if json_bytes > _MOST_JSON or content_bytes > _MOST_BYTES:
            raise ValueError(f"an answer of {json_bytes} and {content_bytes} bytes")
        answer = await stdout.readexactly(json_bytes + content_bytes)
        return json.loads(answer[:json_bytes]), answer[json_bytes:]

    async def _end(self) -> str:
        """End the process, and say how it had ended."""
        process, self._process = self._process, None
        if process is None:
            return "it was not running"
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        code = await process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _widen(pipe: asyncio.StreamWriter) -> None:
    """Let a pipe take most pictures with one write, where the system can: usually it takes 64 KB."""
    with contextlib.suppress(ImportError, AttributeError, OSError):  # Windows, macOS, a limit for this user
        import fcntl

        fcntl.fcntl(pipe.get_extra_info("pipe").fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
