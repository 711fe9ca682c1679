"""An update of an index goes in a straight line: control seldom comes back to a module that had the index before."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "bench" / "crossings.py"
# A step that goes back to the index for what it could have been given raises these
MAX_RETURNS = {"a changed folder": 30, "an unchanged one": 16}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("bench_crossings", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_an_update_seldom_comes_back(script: ModuleType) -> None:
    for what, found in script.counted().items():
        assert found.returns <= MAX_RETURNS[what], f"{what}: {' > '.join(found.stays)}"
        assert found.both_ways == 0, found.edges


def test_what_counts_as_a_stay(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two modules: control goes to the second with the handle itself, a part, a closure over it, or none."""
    package = tmp_path / "parcel"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text(
        "from parcel import second\n"
        "class Tool: pass\n"
        "class Part:\n    def __init__(self): self.tool = Tool()\n"
        "class Handle:\n    def __init__(self): self.part = Part()\n"
        "def run(handle):\n"
        "    second.take(handle)\n    second.take(handle.part)\n    second.take(handle.part.tool)\n    second.take(1)\n"
        "    second.call(lambda: handle)\n"
    )
    (package / "second.py").write_text("def take(value): pass\ndef call(get): get()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(script, "ROOT", f"{package}/")
    monkeypatch.setattr(script, "PACKAGE", "parcel")
    from parcel import first  # type: ignore[import-not-found]

    handle = first.Handle()
    found = script.crossings(lambda: first.run(handle), handle)
    assert found.stays == ["first", *["second", "first"] * 4]
    assert found.edges == {("first", "second"): 5, ("second", "first"): 1}
    assert (found.returns, found.both_ways) == (7, 1)
