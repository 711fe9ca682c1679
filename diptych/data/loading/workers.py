"""Decodes in processes: pixels are returned through shared memory, captions through a pipe."""

import contextlib
import ctypes
import multiprocessing
import pickle
import queue
import signal
import threading
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any

import numpy as np

from diptych.data.loading.decoding import DecodedBatch, Decoder
from diptych.data.loading.plan import Pick
from diptych.data.samples import Source
from diptych.display.escaping import escape_streams
from diptych.errors import DataError, Setting

SLOTS = 2  # batches of a worker: one waits to be taken, one is being decoded


class Workers:
    """`count` processes that decode whole batches of up to `rows` pictures in turn. Use as a context manager.

    Results are returned in the order of `submit`; at most `room` batches may be submitted and not yet returned.
    DataError is raised if a worker dies or fails. The processes are spawned, as threads and CUDA require, so a training
    script needs `if __name__ == "__main__":`.
    """

    def __init__(self, count: int, decoder: Decoder, rows: int, resident: Sequence[Source] = ()):
        """Sources in `resident` stay in a worker once they were sent; others are dropped after use."""
        self.room = count * SLOTS
        self._resident = {id(source): source for source in resident}
        self._shape = rows, decoder.size_px, decoder.size_px, 3
        self._held: list[dict[int, Source]] = [{} for _ in range(count)]
        self._waiting: deque[tuple[int, int, int]] = deque()  # (worker, slot, rows) of submitted batches
        self._submitted = 0
        context = multiprocessing.get_context("spawn")
        self._memory, self._pipes, self._processes = [], [], []
        # At exit, multiprocessing waits for the processes, which wait for their pipes. The traceback of an uncaught
        # error may keep these open, so this finalizer ends the processes earlier.
        self._end = Finalize(self, _end, (self._pipes, self._processes), exitpriority=10)
        for number in range(count):
            memory = context.RawArray(ctypes.c_uint8, SLOTS * int(np.prod(self._shape)))
            ours, theirs = context.Pipe()
            arguments = (theirs, memory, self._shape, decoder)
            process = context.Process(target=_work, args=arguments, daemon=True, name=f"diptych-loader-{number}")
            with _importing(process):
                process.start()
            theirs.close()
            self._memory.append(np.frombuffer(memoryview(memory), np.uint8).reshape(SLOTS, *self._shape))
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def submit(self, picks: Sequence[Pick]) -> None:
        """Submit a batch. A source is sent to a worker with the first batch that needs it; unless resident, the worker
        drops it with the first batch that does not."""
        worker, slot = self._submitted % len(self._pipes), self._submitted // len(self._pipes) % SLOTS
        held = self._held[worker]
        needed = {id(pick.source): pick.source for pick in picks}
        fresh = {token: source for token, source in needed.items() if token not in held}
        gone = held.keys() - needed.keys() - self._resident.keys()
        # Referenced here as well: an id is reused as soon as its object is freed.
        self._held[worker] = {token: source for token, source in held.items() if token not in gone} | fresh
        sent_picks = [(pick.part, id(pick.source), pick.index, pick.seed) for pick in picks]
        self._send(worker, (slot, fresh, gone, sent_picks))
        self._submitted += 1
        self._waiting.append((worker, slot, len(picks)))

    def result(self) -> tuple[np.ndarray, DecodedBatch]:
        """The oldest submitted batch: (pixels, the rest)."""
        worker, slot, rows = self._waiting.popleft()
        pipe, process = self._pipes[worker], self._processes[worker]
        if pipe not in wait([pipe, process.sentinel]):
            raise self._died(worker)
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            raise self._died(worker) from None
        if isinstance(answer, Exception):
            raise answer
        return self._memory[worker][slot, :rows].copy(), answer

    def _send(self, worker: int, message: Any) -> None:
        try:
            self._pipes[worker].send(message)
        except OSError:
            raise self._died(worker) from None
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise DataError(
                f"a source cannot be sent to another process ({error}).", remedy=["Set ", Setting("workers", 0), "."]
            ) from error

    def _died(self, worker: int) -> DataError:
        process = self._processes[worker]
        process.join(5)
        code = process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        if how == "signal SIGKILL":
            advice = "The system probably ran out of memory: use fewer workers."
        else:
            advice = 'If it died at the start, put the script\'s code under `if __name__ == "__main__":`.'
        which = f"loader process {worker + 1} of {len(self._processes)}"
        return DataError(f"{which} died ({how}).", remedy=[f"{advice} ", Setting("workers", 0), " reads in threads."])


def _end(pipes: list[Connection], processes: list[Any]) -> None:
    """Kills the processes."""
    for pipe in pipes:
        pipe.close()  # a worker ends when its pipe ends
    for process in processes:
        process.kill()
        process.join()


@contextlib.contextmanager
def _importing(process: Any):
    """Explains the error of starting a process while the script itself is being imported by a spawned process."""
    try:
        yield
    except RuntimeError as error:
        raise DataError('loader processes need the script\'s code under `if __name__ == "__main__":`.') from error


def _work(pipe: Connection, memory: Any, shape: tuple[int, ...], decoder: Decoder) -> None:
    """The worker process: decodes batches until the pipe ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole process group; the parent decides
        signal.signal(number, signal.SIG_IGN)
    escape_streams()
    slots = np.frombuffer(memory, np.uint8).reshape(SLOTS, *shape)
    sources: dict[int, Source] = {}
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, orders), daemon=True).start()
    while (order := orders.get()) is not None:
        slot, fresh, gone, sent_picks = order
        sources = {token: source for token, source in sources.items() if token not in gone} | fresh
        picks = [Pick(part, sources[token], index, seed) for part, token, index, seed in sent_picks]
        with contextlib.suppress(OSError):
            pipe.send(_attempt(decoder, picks, slots[slot, : len(picks)]))


def _listen(pipe: Connection, orders: Any) -> None:
    """Reads orders from the pipe at once: if both ends blocked on writing, neither would ever read."""
    try:
        while True:
            orders.put(pipe.recv())
    except (EOFError, OSError):
        orders.put(None)


def _attempt(decoder: Decoder, picks: list[Pick], pixels: np.ndarray) -> DecodedBatch | Exception:
    try:
        return decoder.decode(picks, pixels)
    except DataError as error:
        return error
    except Exception as error:
        return DataError(f"a loader process failed: {type(error).__name__}: {error}")
