"""A process that runs cases one after another and says which broke a promise; whoever started it may have to kill it.

    python -m fuzzing.worker TARGET SEED FIRST LAST HOME KEEP [alone]

A line of JSON on stdout tells of each case that begins, is done, or has broken something.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import sys
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from diptych.cli import run

from .case import SECRET, Case, Target, write_precious
from .running import Screen
from .targets import BREAKING, NAMES
from .watching import (
    CODES,
    MOST_BYTES,
    Network,
    Outside,
    TooLong,
    children_peak_bytes,
    forget_peak,
    limited_time,
    not_escaped,
    peak_bytes,
)

MORE_BYTES = 6 << 30  # that a process may map beyond what it has when the cases begin: a bound for the machine's sake
CLEANED_EVERY = 200  # cases, after which what the user's cache holds is removed


class Broken(NamedTuple):
    """A promise that was not kept."""

    command: list[str]
    what: str
    said: str


class Worker:
    """Cases of one target with one seed."""

    def __init__(self, target: str, seed: int, home: Path):
        self.target, self.seed, self.home = target, seed, home
        for folder in ("work", "tmp", "current", ".cache", ".config"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        os.chdir(home / "current")
        module, name = (NAMES | BREAKING)[target]
        self.subject: Target = getattr(importlib.import_module(f".{module}", __package__), name)(home)
        self.screen, self.network = Screen(), Network()
        self.codes: Counter[str] = Counter()
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MORE_BYTES, resource.RLIM_INFINITY))

    def choice(self, number: int) -> Random:
        """What a case draws from: the same for the same seed, whatever came before it."""
        return Random(f"{self.seed} {self.target} {number}")

    def make(self, number: int) -> Case:
        """The changed input of a case, in an empty folder."""
        folder = self.home / "work"
        shutil.rmtree(folder)
        folder.mkdir()
        write_precious(self.home)
        return self.subject.case(folder, self.choice(number))

    def broken(self, case: Case, number: int) -> list[Broken]:
        """Run the commands of a case: what they broke."""
        # what the user keeps is the user's own; of what the system has for temporary files, the process's own goes
        private = [self.home / name for name in (".cache", ".config", "tmp")]
        outside, found = Outside(self.home, [*case.allowed, *private]), list[Broken]()
        for at, command in enumerate(case.commands):
            is_terminal = (number + at) % 2 == 0 and "--json" not in command
            found += [Broken(command, what, self._all_said()) for what in self._run(command, is_terminal)]
            if changed := outside.changed():
                found.append(Broken(command, f"changed outside: {'; '.join(changed[:5])}", self._all_said()))
                outside = Outside(self.home, [*case.allowed, *private])
        return found

    def _all_said(self) -> str:
        out, err = self.screen.said()
        return f"{out}\n--- stderr\n{err}"

    def _run(self, command: list[str], is_terminal: bool) -> list[str]:
        """One command: what it broke, but for files outside."""
        self.screen.clear(is_terminal=is_terminal)
        self.network.asked.clear()
        forget_peak()
        before, before_children = peak_bytes(), children_peak_bytes()
        code, broken = None, list[str]()
        try:
            with limited_time():
                code = run(command)
            self.codes[f"{command[0]} {code}"] += 1
        except TooLong as error:
            broken.append(str(error))
        except BaseException as error:
            broken.append(f"a traceback: {type(error).__name__}: {str(error)[:200]} ({_where(error)})")
        broken += [f"asked the network for {asked}" for asked in self.network.asked]
        if peak_bytes() > max(MOST_BYTES, before + 50_000_000):
            broken.append(f"took {peak_bytes() / 1e9:.1f} GB")
        if (children := children_peak_bytes()) > max(MOST_BYTES, before_children):
            broken.append(f"had a process that took {children / 1e9:.1f} GB")
        return broken + ([] if code is None else self._badly_said(code, command, is_terminal))

    def _badly_said(self, code: Any, command: list[str], is_terminal: bool) -> list[str]:
        out, err = self.screen.said()
        broken = []
        if code not in CODES:
            broken.append(f"exit code {code!r}")
        if code in (1, 2) and not (out + err).strip():
            broken.append(f"exit code {code} without a word")
        if "Traceback (most recent call last)" in out + err or "Exception ignored" in err:
            broken.append("a traceback beside the results")
        if "out of memory" in err:
            broken.append("ran out of memory")
        if SECRET in out + err:
            broken.append("tells what stands in a file outside")
        if odd := not_escaped(err) or (is_terminal and not_escaped(out)):
            broken.append(f"sends to a terminal: {odd}")
        if "--json" in command and out and code != 2:
            broken += _json_faults(out)
        return broken


def _json_faults(out: str) -> list[str]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        json.loads(out, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        return [f"--json is none: {error}"]
    return []


def _where(error: BaseException) -> str:
    """The innermost of our own lines that an error came through."""
    lines, trace = [], error.__traceback__
    while trace:
        name = trace.tb_frame.f_code.co_filename
        if "/diptych/" in name:
            lines.append(f"{Path(name).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(lines[-3:]) or "outside our code"


def keep(worker: Worker, number: int, broken: list[Broken], case: Case, place: Path) -> Path:
    """A folder with what a case was, the line that runs it again, and what came of it."""
    kept = place / f"{worker.target}-{worker.seed}-{number}"
    shutil.rmtree(kept, ignore_errors=True)
    worker.make(number)
    shutil.copytree(worker.home / "work", kept / "input", symlinks=True, ignore=_only_plain)
    told = [
        f"python -m tests.fuzzing {worker.target} --seed {worker.seed} --case {number}",
        *(f"changed: {change}" for change in case.changes),
        *(f"runs: diptych {' '.join(command)}" for command in case.commands),
        *(f"\nran: diptych {' '.join(one.command)}\nbroke: {one.what}\n{one.said}" for one in broken),
    ]
    (kept / "said.txt").write_text("\n".join(told), errors="backslashreplace")
    return kept


def _only_plain(folder: str, names: list[str]) -> list[str]:
    """What cannot be copied: pipes and sockets."""
    paths = {name: Path(folder, name) for name in names}
    return [name for name, path in paths.items() if not (path.is_symlink() or path.is_file() or path.is_dir())]


def main(target: str, seed: str, first: str, last: str, home: str, place: str, *, runs: bool = True) -> None:
    """Run cases from `first` up to `last`; or, for those that would end this process, only keep what they are."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    worker = Worker(target, int(seed), Path(home))
    for number in range(int(first), int(last)) if not runs else ():
        print(json.dumps({"kept": str(keep(worker, number, [], worker.make(number), Path(place)))}), file=told)
    if not runs:
        return
    for number in range(int(first), int(last)):
        print(json.dumps({"begins": number}), file=told)
        try:
            case = worker.make(number)
            if broken := worker.broken(case, number):
                kept = str(keep(worker, number, broken, case, Path(place)))
                print(json.dumps({"broke": number, "what": [one.what for one in broken], "kept": kept}), file=told)
        except BaseException:  # of the fuzzer's own; stderr is a screen that nobody sees
            print(json.dumps({"failed": traceback.format_exc()}), file=told)
            raise
        if number % CLEANED_EVERY == CLEANED_EVERY - 1:
            shutil.rmtree(worker.home / ".cache")
            (worker.home / ".cache").mkdir()
    print(json.dumps({"done": int(last), "codes": worker.codes}), file=told)


if __name__ == "__main__":
    main(*sys.argv[1:7], runs=len(sys.argv) == 7)
