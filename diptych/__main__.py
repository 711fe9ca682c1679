"""The command `diptych`."""

import sys


def main() -> None:
    """Run the command line; errors become one line on stderr and an exit code."""
    from diptych.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
