"""Every benchmark speaks alike: --quick, --json, one object."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if "def main" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_quick_json_has_one_object(
    name: str, shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: a script alone would first import PyTorch."""
    more = {"recall.py": ["--data", str(shards)], "learning.py": ["--threads", "1"]}.get(name, [])
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setattr("searchers.THREADS", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", [name, "--quick", "--json", *more])
    spec = importlib.util.spec_from_file_location(f"bench_{Path(name).stem}", BENCH / name)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)
    spec.loader.exec_module(script)
    capsys.readouterr()
    script.main()
    is_one_object(capsys.readouterr().out)


def is_one_object(out: str) -> None:
    said = json.loads(out)
    assert said.keys() == {"question", "machine", "rows"}
    assert said["rows"]
    assert all(row.keys() == {"who", "value", "unit", "ratio"} for row in said["rows"])


def test_a_benchmark_is_a_script() -> None:
    command = [sys.executable, str(BENCH / "probe.py"), "--quick", "--json"]
    is_one_object(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_every_benchmark_is_in_the_page() -> None:
    page = (BENCH.parent / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert SCRIPTS
    assert all(f"bench/{name}" in page for name in SCRIPTS)
