"""The locks of dependencies are whole, and the same as constraints.txt; `make check-lock` asks whether they are new."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCK, DEVELOP = "requirements.lock", "requirements-develop.lock"


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dependencies_lock", ROOT / "dependencies" / "lock.py")
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_pin_is_that_of_the_constraints(lock: ModuleType) -> None:
    """Nothing is missing and nothing more is there, but for PyTorch, whose builds lie in different places."""
    pins = {lock.normalised(pin.name): pin.version for pin in lock.read(text(DEVELOP))}
    assert {**pins, "torch": lock.constraints()["torch"]} == lock.constraints()
    assert "torch" not in pins


def test_the_base_is_part_of_the_whole(lock: ModuleType) -> None:
    """With the same files; it is what pyproject.toml wants, and what that wants."""
    whole = {pin.name: pin for pin in lock.read(text(DEVELOP))}
    base = {pin.name: pin for pin in lock.read(text(LOCK))}
    assert all(whole[name]._replace(wanted_by=()) == pin._replace(wanted_by=()) for name, pin in base.items())
    project = tomllib.loads(text("pyproject.toml"))["project"]
    wanted = {lock.normalised(Requirement(one).name) for one in project["dependencies"]}
    assert wanted == {name for name, pin in base.items() if "diptych" in pin.wanted_by}
    assert all(by in base or by == "diptych" for pin in base.values() for by in pin.wanted_by)


def test_every_wanted_release_is_in_the_whole(lock: ModuleType) -> None:
    """In a version that pyproject.toml takes."""
    pins = {pin.name: pin.version for pin in lock.read(text(DEVELOP))}
    project = tomllib.loads(text("pyproject.toml"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    for wanted in (Requirement(one) for some in lists for one in some):
        if wanted.name not in ("diptych", "torch"):
            assert pins[lock.normalised(wanted.name)] in wanted.specifier


@pytest.mark.parametrize("name", [LOCK, DEVELOP])
def test_every_release_has_its_hashes_and_no_address(lock: ModuleType, name: str) -> None:
    assert all(pin.hashes for pin in lock.read(text(name)))
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@", text(name))
    compiled = next(pin for pin in lock.read(text(name)) if pin.name == "numpy")
    assert len(compiled.hashes) > 20  # of its wheels for every system and Python, and of its source


def test_what_was_written_is_read(lock: ModuleType) -> None:
    one = lock.Pin("one", "1.0", "sys_platform == 'win32'", frozenset({"sha256:" + "a" * 64}), ("two", "diptych"))
    two = lock.Pin("two.two", "2", "", frozenset({"sha256:" + "b" * 64, "sha256:" + "c" * 64}), ("diptych",))
    assert lock.read(f"# made\n\n{one}{two}") == [one, two]


def test_differences_are_named(lock: ModuleType) -> None:
    """A file more, which a release may get at any time, is none."""
    pin = lock.Pin("one", "1", "", frozenset({"sha256:a"}), ("diptych",))
    assert lock.differences([pin], [pin._replace(hashes=pin.hashes | {"sha256:b"})]) == []
    assert lock.differences([pin], [pin._replace(hashes=frozenset({"sha256:b"}))]) == [
        "one 1: files with 1 of the hashes are gone"
    ]
    assert lock.differences([pin], []) == ["one is no more wanted"]
    assert lock.differences([], [pin]) == ["one is missing"]
    assert lock.differences([pin], [pin._replace(version="2")]) == ["one==1 for diptych is now one==2 for diptych"]
