"""The package itself: what it names, and what importing it costs."""

import subprocess
import sys

import pytest

import diptych


def test_importing_costs_nothing() -> None:
    """No torch, no PIL, and under 0.1 s: the best of five, measured inside the interpreter that is up already."""
    code = (
        "import sys, time; started = time.perf_counter(); import diptych; took = time.perf_counter() - started; "
        "print(took, *sys.modules.keys() & {'torch', 'PIL', 'numpy', 'transformers', 'tokenizers', 'click'})"
    )
    said = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    seconds, loaded = zip(*(one.stdout.strip().partition(" ")[::2] for one in said), strict=True)
    assert set(loaded) == {""}
    assert min(map(float, seconds)) < 0.1


def test_every_public_name_is_there() -> None:
    for name in diptych.__all__:
        assert getattr(diptych, name) is not None
    assert dir(diptych) == sorted(diptych.__all__)
    with pytest.raises(AttributeError, match="diptych has no 'lode'; it has load, "):
        _ = diptych.lode  # type: ignore[attr-defined]
