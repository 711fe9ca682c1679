"""The package itself: what it names, and what importing it brings along."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import diptych

ROOT = Path(__file__).parent.parent


def test_importing_costs_nothing() -> None:
    """Beside Python's typing it reads itself alone, whatever the machine: no library, and none of its own modules."""
    code = "import sys, typing; before = {*sys.modules}; import diptych; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["diptych"]


def test_every_public_name_is_there() -> None:
    for name in diptych.__all__:
        assert getattr(diptych, name) is not None
    assert dir(diptych) == sorted(diptych.__all__)
    with pytest.raises(AttributeError, match="diptych has no 'lode'; it has load, "):
        _ = diptych.lode  # type: ignore[attr-defined]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout: nothing says what is tracked")
def test_the_source_distribution_ships_what_its_tests_run() -> None:
    """All that is tracked, but for what belongs to the repository itself."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    tops = {name.partition("/")[0] for name in tracked if name} - {
        ".ci",
        ".github",
        ".gitignore",
        "findings",
        "pyproject.toml",
    }
    assert tops <= set(shipped)
