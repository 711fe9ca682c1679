"""Old names work, and the warning names the new one and the caller's line."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import pytest
from PIL import Image

import diptych
from diptych.deprecation import RenamedAttribute, renamed_arguments, renamed_attributes
from diptych.scenes import scene


class Result(NamedTuple):
    score: float

    worth = RenamedAttribute("worth", "score")


@renamed_attributes(encode="embed")
class Model:
    def embed(self, *, truncate: bool = False) -> bool:
        return truncate

    run = renamed_arguments(cut="truncate")(embed)


def test_old_attributes_and_methods_work() -> None:
    with pytest.warns(DeprecationWarning, match=r"Result\.worth is now score; the old name works until") as warned:
        assert Result(0.5).worth == 0.5
    assert warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=r"Model\.encode is now embed"):
        assert Model().encode(truncate=True)


def test_old_arguments_work() -> None:
    with pytest.warns(DeprecationWarning, match=r"Model\.embed\(cut=\) is now truncate=") as w:
        assert Model().run(cut=True)
    assert w[0].filename == __file__
    assert not Model().run(truncate=False)


PICTURE = Image.new("RGB", (64, 64), "red")


@pytest.mark.parametrize(
    "use",
    [
        lambda: diptych.load().locate(PICTURE, "a star", method="places"),  # type: ignore[arg-type]
        lambda: diptych.Failure("empty", "it is empty.", words="it is empty."),  # type: ignore[call-arg]
        lambda: diptych.Failure.of("empty", words="it is empty."),  # type: ignore[call-arg]
        lambda: diptych.Failure("empty", "it is empty.").words,
        lambda: diptych.recipe("laptop", data=("x",), places=2.0),
        lambda: dataclasses.replace(diptych.Filters(), place=(1, 2, 3, 4)),  # type: ignore[call-arg]
        lambda: dataclasses.replace(diptych.TrainConfig(data=("x",)), places=2.0),  # type: ignore[call-arg]
    ],
    ids=["locate", "failure", "failure-of", "failure-words", "recipe", "replace-filters", "replace-config"],
)
def test_the_warning_is_at_the_callers_line_however_deep_the_old_name_is_read(use: Callable[[], object]) -> None:
    """Python hides a DeprecationWarning of a library's own line."""
    with pytest.warns(DeprecationWarning, match="the old name works until") as warned:
        use()
    assert [each.filename for each in warned] == [__file__]


def test_the_old_location_of_drawn_scenes_works() -> None:
    """README named it: `from diptych.data.scenes import write_shards`."""
    with pytest.warns(
        DeprecationWarning, match=r"diptych\.data\.scenes\.write_shards is now diptych\.scenes"
    ) as warned:
        from diptych.data.scenes import write_shards  # type: ignore[attr-defined]
    assert write_shards is scene.write_shards
    assert [each.filename for each in warned] == [__file__]
    with pytest.raises(ImportError):
        from diptych.data.scenes import no_such_name  # type: ignore[attr-defined]  # noqa: F401
