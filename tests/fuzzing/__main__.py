"""The fuzzer's command line."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from .driver import Failure, fuzzed
from .targets import NAMES

TURN_S = 60.0  # of one target before the next has its own


def main() -> int:
    """Run what was asked for; 1 where a promise was broken."""
    options = _options()
    targets = options.targets or list(NAMES)
    options.keep.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * options.minutes if options.minutes else None
    failures = list[Failure]()
    if options.case is not None:
        for target in targets:
            failures += _run(target, range(options.case, options.case + 1), options, None)
    elif until is None:
        for target in targets:
            failures += _run(target, range(options.first, options.first + options.cases), options, None)
    else:
        failures += _by_turns(targets, options, until)
    print(f"{len(failures)} cases broke a promise" if failures else "all promises were kept")
    return 1 if failures else 0


def _by_turns(targets: list[str], options: argparse.Namespace, until: float) -> list[Failure]:
    """Each target for a while, until the time is over."""
    failures, first = list[Failure](), dict.fromkeys(targets, options.first)
    turn_s = min(TURN_S, 60 * options.minutes / len(targets))
    while time.monotonic() < until:
        for target in targets:
            end = min(until, time.monotonic() + turn_s)
            count, found = fuzzed(
                target, range(first[target], first[target] + 10**9), seed=options.seed, place=options.keep, until=end,
                tell=_tell,
            )  # fmt: skip
            first[target] += count
            failures += found
            print(f"{target}: {first[target] - options.first:,} cases so far", file=sys.stderr)
    return failures


def _run(target: str, cases: range, options: argparse.Namespace, until: float | None) -> list[Failure]:
    started, codes = time.monotonic(), Counter[str]()
    count, failures = fuzzed(target, cases, seed=options.seed, place=options.keep, until=until, tell=_tell, codes=codes)
    print(f"{target}: {count:,} cases in {time.monotonic() - started:.0f} s, {len(failures)} broke a promise")
    print("  exit codes: " + ", ".join(f"{said}: {times:,}" for said, times in sorted(codes.items())))
    return failures


def _tell(number: int, failure: Failure | None) -> None:
    if failure:
        print(failure, flush=True)
    elif number % 100 == 0:
        print(f"{number:,}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; by default all")
    parser.add_argument("--cases", type=int, default=2000, help="changes to each target (default 2000)")
    parser.add_argument("--minutes", type=float, help="go on for so long instead, the targets by turns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--case", type=int, help="one case alone")
    parser.add_argument("--keep", type=Path, default=Path("fuzzing-failures"), help="where failing cases are kept")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
