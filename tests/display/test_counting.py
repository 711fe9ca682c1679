"""Numbers with the noun that they count."""

import pytest

from diptych.display.counting import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (12345, "12,345 files")])
def test_one_has_no_plural(number: int, said: str) -> None:
    assert counted(number, "file") == said


@pytest.mark.parametrize(("number", "said"), [(0, "0 copies"), (1, "1 copy"), (2000, "2,000 copies")])
def test_several_may_have_words_of_their_own(number: int, said: str) -> None:
    assert counted(number, "copy", "copies") == said
