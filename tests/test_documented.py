"""The public face: every exported name is documented, every signature typed, every error in docs/errors.md."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import diptych
from diptych import errors

ROOT = Path(__file__).parent.parent
NAMES = [name for name in diptych.__all__ if name != "__version__"]


def functions(name: str) -> Iterator[tuple[str, object]]:
    """An exported function, or the public methods and properties of an exported class, with their names."""
    thing = getattr(diptych, name)
    members = vars(thing).items() if inspect.isclass(thing) else [("", thing)]
    for member, value in members:
        value = getattr(value, "__func__", getattr(value, "fget", getattr(value, "func", value)))
        is_ours = inspect.isfunction(value) and inspect.unwrap(value).__module__.startswith("diptych")
        if is_ours and (member == "__init__" or not member.startswith("_")):
            yield f"{name}.{member}".rstrip("."), inspect.unwrap(value)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_typed_without_any(name: str) -> None:
    for function, thing in functions(name):
        signature = inspect.signature(thing)  # type: ignore[arg-type]
        annotations = {each.name: each.annotation for each in signature.parameters.values()}
        if not function.endswith("__init__"):
            annotations["return"] = signature.return_annotation
        for parameter, annotation in annotations.items():
            if parameter not in ("self", "cls"):
                assert annotation is not inspect.Signature.empty, f"{function}({parameter})"
                assert not re.search(r"\bAny\b", str(annotation)), f"{function}({parameter}: {annotation})"
    for field, annotation in getattr(getattr(diptych, name), "__annotations__", {}).items():
        assert field.startswith("_") or not re.search(r"\bAny\b", str(annotation)), f"{name}.{field}: {annotation}"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_function_explains_itself(name: str) -> None:
    assert inspect.getdoc(getattr(diptych, name))
    undocumented = [function for function, thing in functions(name) if not inspect.getdoc(thing)]
    assert [each for each in undocumented if not each.endswith("__init__")] == []


def test_every_exported_name_has_a_line_in_the_reference() -> None:
    """In the order of `__all__`, under its topics, and no other name."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == NAMES
    source = (ROOT / "diptych" / "__init__.py").read_text(encoding="utf-8")
    topics = re.findall(r"^    # (.+)$", source.partition("__all__ = [")[2].partition("]")[0], re.M)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == topics


def test_the_three_lists_of_public_names_agree() -> None:
    tree = ast.parse((ROOT / "diptych" / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == diptych._MODULES
    assert list(diptych._MODULES) == NAMES
    assert set(diptych._RENAMED.values()) <= set(NAMES)
    assert not set(diptych._RENAMED) & set(NAMES)


@pytest.mark.parametrize(("old", "new"), diptych._RENAMED.items())
def test_old_names_work_with_a_warning(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"diptych\.{old} is now diptych\.{new}"):
        assert getattr(diptych, old) is getattr(diptych, new)


def error_tree(root: type[Exception], depth: int = 0) -> list[str]:
    """The classes of `diptych.errors` below one, as lines with two spaces for each level."""
    order = list(vars(errors))
    below = [each for each in root.__subclasses__() if each.__module__ == errors.__name__]
    lines = [f"{'  ' * depth}{root.__name__}"]
    for each in sorted(below, key=lambda kind: order.index(kind.__name__)):
        if root in each.__bases__[:1]:
            lines += error_tree(each, depth + 1)
    return lines


def test_the_page_on_errors_has_every_error() -> None:
    """The tree, and under it a row for each with its attributes and exit code."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    tree = error_tree(errors.DiptychError)
    drawn = text.partition("```text\n")[2].partition("```")[0].splitlines()
    assert [line.split("  #")[0].rstrip() for line in drawn] == tree
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [line.strip() for line in tree]
    kinds = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert kinds == {line.strip() for line in tree} <= set(NAMES)
