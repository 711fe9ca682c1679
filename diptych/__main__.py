"""The program `diptych`: prepares streams and signals, and runs the command line."""

import atexit
import io
import os
import sys
from contextlib import nullcontext
from typing import NoReturn


def main() -> None:
    """Run the command line and exit with its code. Errors become one line on stderr."""
    from diptych.cli import run
    from diptych.cli.exit_codes import INTERRUPTED
    from diptych.cli.interruption import exit_on_signal
    from diptych.display.escaping import escape_streams

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: discard the output
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Print the bytes of a file's name that is not text unchanged, so that another program can open the file.
            is_utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")
    escape_streams()
    os.environ.setdefault("DO_NOT_TRACK", "1")  # huggingface_hub would send a list of installed libraries
    if sys.argv[1:2] in (["search"], ["serve"]):
        # A search is done before NumPy's threads are of use, and they would go on looking for work: twice its time.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Training saves a checkpoint first, and a server finishes what is under way.
    with nullcontext() if sys.argv[1:2] in (["train"], ["serve"]) else exit_on_signal():
        try:
            code = run(sys.argv[1:])
        except KeyboardInterrupt:  # outside the part of `run` that handles it
            code = INTERRUPTED
        if code == INTERRUPTED or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _exit_now(code)
    sys.exit(code)


def _exit_now(code: int) -> NoReturn:
    """End the process without tearing down the interpreter. After Ctrl-C the interpreter would wait for threads that
    read a large file. In distributed training gloo's threads sometimes outlive it and abort the process, and torchrun
    would report a failure."""
    atexit._run_exitfuncs()  # leaves the process group
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
