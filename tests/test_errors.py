"""The tree of errors: complete, as drawn, and the same after a process boundary."""

import importlib
import inspect
import pickle
import pkgutil
import re

import pytest

import diptych
from diptych import errors
from diptych.errors import DataError, DiptychError, FetchError, FileError, ImageError, IndexDamagedError

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DiptychError)]


def test_every_error_is_defined_in_one_module() -> None:
    elsewhere = {
        f"{module.name}.{name}"
        for module in pkgutil.walk_packages(diptych.__path__, "diptych.")
        if not module.name.endswith("__main__")
        for name, kind in vars(importlib.import_module(module.name)).items()
        if inspect.isclass(kind) and issubclass(kind, DiptychError) and kind.__module__ != errors.__name__
    }
    assert not elsewhere


def test_the_drawn_tree_is_the_tree() -> None:
    drawn, above = {}, [""]
    for indent, name in re.findall(r"^((?:    )*)(\w+Error)$", errors.__doc__ or "", re.M):
        above[len(indent) // 4 + 1 :] = [name]
        drawn[name] = above[-2]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ if kind is not DiptychError else "" for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_says_when_it_is_raised(kind: type[DiptychError]) -> None:
    assert "__doc__" in vars(kind)


@pytest.mark.parametrize(
    "error",
    [
        ImageError("missing", "cat.jpg", "Check the path."),
        DataError("it is empty", "no pairs", remedy="Use another.", argument="source"),
        FileError("cat.jpg is a pipe", "not a regular file"),
        FetchError("it took too long", "deadline"),
        IndexDamagedError("it is damaged"),
    ],
)
def test_an_error_survives_pickling(error: DiptychError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("IndexFault", "SearchIndexError"),
        ("IndexPlaceError", "IndexDirectoryError"),
        ("ReaderError", "ReaderProcessError"),
    ],
)
def test_old_names_of_errors_still_work_and_warn(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is now diptych.{new}"):
        assert getattr(diptych, old) is getattr(errors, new)


def test_the_old_name_of_format_still_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match="DiptychError.worded is now format"):
        assert DiptychError("It is so.").worded() == "It is so."
