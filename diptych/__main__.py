"""The command `diptych`."""

import io
import sys


def main() -> None:
    """Run the command line; errors become one line on stderr and an exit code."""
    from diptych.cli import run

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may be no text: its bytes go out as they are, so that another program can open it.
            is_utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
