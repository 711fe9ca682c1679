"""Runs `diptych index FOLDER` in children that can be killed: each is forked from here, where all is imported already.

Each line on stdin ("plain FOLDER" or "processes FOLDER") starts one. What comes on stdout: its process id, "batch"
before each batch of vectors is made, and its exit status. One that was told "waits FOLDER" reads by processes, too, and
waits in its fifth batch for a signal.
"""

import os
import signal
import sys

import rich.progress  # noqa: F401 (imported by each child otherwise)
from index_model import InlineReaders, PixelModel

import diptych.cli.index
import diptych.embedder
import diptych.index.update.batched_embedder
import diptych.index.update.precomputed
import diptych.index.update.update
import diptych.media.reading.readers
import diptych.media.scanning.scan
import diptych.vectors.nearest
from diptych.cli import run

diptych.index.update.batched_embedder.BATCH = 4  # so that there are many moments at which to be killed
diptych.index.update.update.COMMIT_FILES = 6


class Announced(PixelModel):
    """Says when it is used; with `signals`, a pipe that has a byte for each signal, its fifth batch waits for one."""

    signals: int | None = None
    batches = 0

    def embed_pixels(self, pixels):  # type: ignore[no-untyped-def]
        self.batches += 1
        os.write(SAID, b"batch\n")
        if self.batches == 5 and self.signals is not None:
            os.read(self.signals, 1)
        return super().embed_pixels(pixels)


def heard_signals() -> int:
    """A pipe that has a byte for each signal that Python handles, beside what it does of it."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told)
    return heard


SAID = os.dup(1)
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 1)
diptych.embedder.load = lambda name, **options: Announced()  # type: ignore[assignment]

for line in sys.stdin:
    how, _, folder = line.rstrip("\n").partition(" ")
    child = os.fork()
    if child == 0:
        if how == "plain":
            diptych.media.reading.readers.ReaderPool = InlineReaders  # type: ignore[misc, assignment]
        if how == "waits":
            Announced.signals = heard_signals()
        os.write(SAID, b"%d\n" % os.getpid())
        try:
            os._exit(run(["index", folder]))
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    os.write(SAID, b"ended %d\n" % status)
