"""Runs `diptych index FOLDER` in children that can be killed: each is forked from here, where all is imported already.

Each line on stdin ("plain FOLDER" or "processes FOLDER") starts one. What comes on stdout: its process id, "began" when
the first vectors are made, and its exit status.
"""

import os
import sys
import time

import rich.progress  # noqa: F401 (imported by each child otherwise)
from index_model import InlineReaders, PixelModel

import diptych.cli.index
import diptych.embedder
import diptych.index.encoding
import diptych.index.given
import diptych.index.nearest
import diptych.index.readers
import diptych.index.scan
import diptych.index.updating
from diptych.cli import run

diptych.index.encoding.BATCH = 4  # so that there are many moments at which to be killed
diptych.index.updating.COMMIT_FILES = 6


class Announced(PixelModel):
    """Says when it is first used, and takes its time where `pause_s` says so."""

    pause_s = 0.0

    def embed_pixels(self, pixels):  # type: ignore[no-untyped-def]
        if not self.embedded:
            os.write(SAID, b"began\n")
        time.sleep(self.pause_s)
        return super().embed_pixels(pixels)


SAID = os.dup(1)
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 1)
diptych.embedder.load = lambda name, **options: Announced()  # type: ignore[assignment]

for line in sys.stdin:
    how, _, folder = line.rstrip("\n").partition(" ")
    child = os.fork()
    if child == 0:
        if how == "plain":
            diptych.index.readers.Readers = InlineReaders  # type: ignore[misc, assignment]
        else:
            Announced.pause_s = 0.02  # nothing is over before a signal comes, however busy the machine
        os.write(SAID, b"%d\n" % os.getpid())
        try:
            os._exit(run(["index", folder]))
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    os.write(SAID, b"ended %d\n" % status)
