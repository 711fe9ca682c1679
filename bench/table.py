"""The output of all benchmarks: one object with `question`, `machine` and `rows`, as JSON or as a table."""

import argparse
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One measurement. `ratio` is relative to the first peer's value of the same unit; None without a peer."""

    who: str
    value: float
    unit: str
    ratio: float | None = None


def arguments(question: str) -> argparse.ArgumentParser:
    """A parser that has --quick and --json."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--quick", action="store_true", help="finish within 50 s")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")
    return parser


def machine() -> str:
    """The CPU and its number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def with_ratios(rows: list[Row]) -> list[Row]:
    """Each row's value relative to the first row's."""
    return [Row(row.who, row.value, row.unit, row.value / rows[0].value) for row in rows]


def report(question: str, rows: list[Row], *, as_json: bool, inputs: dict[str, Any] | None = None) -> None:
    """Print the result. `inputs`, what was measured, is printed as JSON only."""
    if as_json:
        more = {"inputs": inputs} if inputs else {}
        print(json.dumps({"question": question, "machine": machine(), "rows": [asdict(row) for row in rows], **more}))
        return
    print(f"{question}\n{machine()}\n")
    width = max(len(row.who) for row in rows)
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:7.2f} x"
        print(f"{row.who:{width}}  {row.value:10.5g} {row.unit:22}{ratio}")
