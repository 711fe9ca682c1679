"""The demo, as `make demo` runs it."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_demo_writes_its_report_within_two_minutes(tmp_path: Path) -> None:
    started_s = time.monotonic()
    script = ROOT / "examples" / "demo.py"
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started_s < 120
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/') >= 40
    assert "http" not in page.split("<body")[-1].replace("http-equiv", "")
    for command in ("diptych search", "diptych classify", "diptych compare"):
        assert f"$ {command}" in done.stdout
