"""The command `diptych`."""

import atexit
import io
import os
import sys
from contextlib import nullcontext
from typing import NoReturn


def main() -> None:
    """Run the command line; errors become one line on stderr and an exit code."""
    from diptych.cli import run
    from diptych.cli.exit_codes import INTERRUPTED
    from diptych.cli.interruption import exit_on_signal
    from diptych.display.escaping import escape_streams

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever called: what is said goes nowhere
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may be no text: its bytes go out as they are, so that another program can open it.
            is_utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")
    escape_streams()
    os.environ.setdefault("DO_NOT_TRACK", "1")  # the hub's library would say what else is installed here
    with nullcontext() if sys.argv[1:2] == ["train"] else exit_on_signal():  # training saves its state first
        try:
            code = run(sys.argv[1:])
        except KeyboardInterrupt:  # before the command has begun to listen, or after it has ceased to
            code = INTERRUPTED
        if code == INTERRUPTED or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the process without tearing down the interpreter: after Ctrl-C that would wait for threads that read a large
    file to its end, and of several processes gloo's threads now and then outlive it: they would abort it, after all is
    done, and torchrun would call the run a failure."""
    atexit._run_exitfuncs()  # the process group parts here
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
