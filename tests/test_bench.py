"""Every benchmark speaks alike: --quick, --json, one object."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if "def main" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_quick_json_has_one_object(name: str, shards: Path) -> None:
    more = ["--data", str(shards)] if name == "recall.py" else []
    command = [sys.executable, str(BENCH / name), "--quick", "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.keys() == {"question", "machine", "rows"}
    assert said["rows"]
    assert all(row.keys() == {"who", "value", "unit", "ratio"} for row in said["rows"])


def test_every_benchmark_is_in_the_page() -> None:
    page = (BENCH.parent / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert SCRIPTS
    assert all(f"bench/{name}" in page for name in SCRIPTS)
