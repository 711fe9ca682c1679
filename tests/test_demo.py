"""The demo, as `make demo` runs it."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Cli

ROOT = Path(__file__).parent.parent


def test_demo_writes_its_report_within_two_minutes(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_BFLOAT16", "0")  # which a search's few words do not use, and an open model does
    script = ROOT / "examples" / "demo.py"
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/') >= 40
    assert "http" not in page.split("<body")[-1].replace("http-equiv", "")
    monkeypatch.chdir(tmp_path)
    for command in ("diptych search 'the night sky' demo/ph", "diptych classify demo/things", "diptych compare"):
        shown, _, rest = done.stdout.partition(f"$ {command}")[2].partition("\n")
        said = cli(*shlex.split(f"{command}{shown}")[1:])  # as a reader would paste it
        assert said.code == 0
        assert rest.startswith(said.out)
