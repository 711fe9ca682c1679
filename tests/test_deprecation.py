"""Old names work, and the warning names the new one and the caller's line."""

from typing import NamedTuple

import pytest

from diptych.deprecation import RenamedAttribute, renamed_arguments, renamed_attributes


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
