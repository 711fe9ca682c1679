"""The package itself: what it names, and what importing it brings along."""

import subprocess
import sys

import pytest

import diptych


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
