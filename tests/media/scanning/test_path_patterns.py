"""One language of patterns, for what is left out of an index and for what is looked for in it."""

import os
import re
import unicodedata
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_fixtures import Searched, TableModel, noise

from diptych.errors import FilterError, PatternError
from diptych.index.filters.filters import Filters
from diptych.media.scanning.path_patterns import Patterns, fits, literal_folder
from diptych.media.scanning.scan import scan


def looked_for(pattern: str, path: str) -> bool:
    return fits(os.fsencode(path), 0, os.fsencode(pattern))


def meant(parts: list[str], glob: list[str]) -> bool:
    """What a pattern means, by its definition: ** is any number of folders."""
    if not glob:
        return not parts
    if glob[0] == "**":
        return meant(parts, glob[1:]) or bool(parts[1:] and meant(parts[1:], glob))
    return bool(parts) and fnmatchcase(parts[0], glob[0]) and meant(parts[1:], glob[1:])


@given(
    st.lists(st.sampled_from(["a", "ab", "b"]), min_size=1, max_size=30),
    st.lists(st.sampled_from(["*", "**", "a", "a*", "?"]), min_size=1, max_size=5),
    st.sampled_from(["*", "b*", "a?"]),
)
def test_patterns_by_their_definition(parts: list[str], folders: list[str], name: str) -> None:
    pattern, path = "/".join([*folders, name]), "/".join(parts)
    assert looked_for(pattern, path) == Patterns([pattern]).match(path) == meant(parts, [*folders, name])
    start = literal_folder(pattern)
    assert not looked_for(pattern, path) or not start or path.startswith(f"{start}/")


@given(
    st.lists(st.sampled_from(["a", "b", "/", "*", "**", "?"]), min_size=1, max_size=9).map("".join),
    st.lists(st.sampled_from(["a", "b", "/"]), max_size=9).map("".join),
)
def test_wildcards_anywhere_by_their_definition(pattern: str, path: str) -> None:
    """As the plainest regular expression has them, which takes time without end of some."""
    pattern, path = re.sub("//+", "/", f"x/{pattern}x"), f"x/{path}x"
    signs = re.sub(r"(?<=/)(?:[*][*]/)+", "1", pattern).replace("**", "2")
    means = {"1": "(?:.*/)?", "2": ".*", "*": "[^/]*", "?": "[^/]"}
    plain = "".join(means.get(sign, sign) for sign in signs)
    assert Patterns([pattern]).match(path) == bool(re.fullmatch(plain, path))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 400 + "b", "a" * 255),
        ("x/" + "**a" * 300 + "b", "x/" + "a" * 4000),
        ("**/" + "*a*/**/" * 100 + "b", "a/" * 2000 + "c"),
        ("**a*b**c*" * 100, ("a" * 250 + "/") * 16),
        ("?*" * 400 + "/b", "a" * 4000),
        ("*" * 999, "/" * 3000 + "a"),
        ("a\u0301" * 400, "a" + "\u0301\u0327" * 1300),
    ],
)
def test_no_pattern_takes_longer_than_its_length_times_that_of_a_path(pattern: str, path: str) -> None:
    """These took longer than anyone waits."""
    asked = Patterns([pattern])
    for _ in range(3):
        assert not asked.match(path) or set(pattern) == {"*"}
        assert looked_for(pattern, path) == asked.match(path)


def test_as_many_patterns_as_are_looked_for() -> None:
    assert Patterns([f"{at}*" for at in range(1000)]).match("999x")
    with pytest.raises(
        PatternError, match=r"10,000 patterns of 20,000 characters are too many; the limit is 1,000 of 50,000"
    ):
        Patterns(["**"] * 10_000)
    with pytest.raises(PatternError, match="60 patterns of 60,000 characters are too many"):
        Patterns(["a" * 1000] * 60)
    for asked in (lambda pattern: Patterns([pattern]), lambda pattern: Filters(path=pattern)):
        with pytest.raises(
            (PatternError, FilterError), match=r"'\*{20}'... has 1,001 characters; a pattern may have 1,000"
        ):
            asked("*" * 1001)
    assert not looked_for("**", "a" * 9000)  # no system has such a path


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.jpg", "d/" * 40 + "A.JPG", True),
        ("*.JPG", "a.jpg", True),
        ("a*.jpg", "A1.jpg", False),  # a name's case counts
        ("IMG_1.jpg", "x/IMG_1.JPG", True),
        ("/IMG_1.jpg", "x/IMG_1.JPG", False),
        ("*.[jt]*", "a.TIFF", True),
        ("d.r/*", "D.R/a.jpg", False),  # a folder's dot begins no ending
        (".JPG", "a/.jpg", False),
        ("drafts", "a/drafts/b/c.png", True),
        ("drafts/", "a/drafts/b/c.png", True),
        ("drafts/", "a/drafts", False),
        ("a/drafts", "a/drafts/c.png", True),
        ("b/drafts", "a/b/drafts/c.png", False),
        ("./*.png", "c.png", True),
        ("./*.png", "a/c.png", False),
        ("a*", "abc/c.png", False),  # a wildcard is no folder
        ("a/*", "a/b/c.png", False),
        ("a/**", "a/b/c.png", True),
        ("**/**/c.png", "c.png", True),
        ("a**c.png", "a/b/c.png", True),
        ("caf\udce9.*", "caf\udce9.png", True),
        ("img\\[1\\].jpg", "a/img[1].jpg", True),
        ("img\\[1\\]", "img[1]/a.jpg", True),
        ("a\\*.jpg", "ab.jpg", False),
        ("a\\b.jpg", "a\\b.jpg", True),  # a backslash before a letter is one
        ("a[+-0]b", "a/b", False),
        ("a//./b/*.jpg", "a/b/c.jpg", True),
        ("a//b/*.jpg", "a/b/c.jpg", True),
    ],
)
def test_what_is_looked_for(pattern: str, path: str, expected: bool) -> None:
    assert looked_for(pattern, path) == expected


@pytest.mark.parametrize("pattern", ["Übung.png", "Café/*", "Caf?/Ü*.PNG", "**/Caf[é]/**", "Café"])
def test_accents_are_compared_as_they_read(pattern: str, tmp_path: Path) -> None:
    """A name may have come from macOS, whose accents are letters of their own, and the pattern from a keyboard."""
    for form in ("NFC", "NFD"):
        folder = tmp_path / form
        path = unicodedata.normalize(form, "Café/Übung.png")
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(b"x")
        index = Searched(folder, TableModel())
        index.put(path, noise(1))
        for typed in (unicodedata.normalize(form, pattern) for form in ("NFC", "NFD")):
            condition, values = Filters(path=typed).condition()
            assert len(index.catalog.matching(condition, values)) == 1, (form, typed)
            assert not list(scan(folder, exclude=[typed]))


def test_sql_and_the_matcher_are_of_one_mind(tmp_path: Path) -> None:
    """Some patterns are SQL alone."""
    index = Searched(tmp_path, TableModel())
    paths = ["a.jpg", "a.JPG", "a/b.jpg", "a/b/c.png", "a.jpg.png", ".jpg", "A/c.png", "jpg", "a_jpg", "b/a/b/c.Jpg"]
    for path in paths:
        index.put(path, noise(1))
    path_of = dict(index.catalog.rows("SELECT items.id, path FROM items JOIN files ON files.id = items.file"))
    plain = ["*.jpg", "*.Png", "a/**", "/a/**", "./a/b/**", "a/", "b/**/*.jpg", "**", "**/a/**", "/*", "a/b/*"]
    for pattern in [*plain, "a/./b/*.png", "a//b/*", "a\\[*"]:
        for under in ("", "a", "b/a"):
            condition, values = Filters(path=pattern, subfolder=under).condition()
            found = {path_of[id] for id in index.catalog.matching(condition, values).tolist()}
            start = len(under) + bool(under)
            inside = [path for path in paths if path.startswith(f"{under}/") or not under]
            assert found == {path for path in inside if fits(path.encode(), start, pattern.encode())}, (pattern, under)


def test_a_pattern_that_is_none() -> None:
    with pytest.raises(PatternError, match="'x\\[z-a\\]' is no pattern"):
        Patterns(["*.gif", "x[z-a]"])
    with pytest.raises(PatternError, match=r"'x\[z-a\]' is no pattern: bad character range z-a\. "):
        Patterns(["x[z-a]"])
    for pattern in ("..", "../a", "a/../b"):
        with pytest.raises(FilterError, match=re.escape(f"path: '{pattern}' leads out of the folder")):
            Filters(path=pattern)
    assert Filters(path="a..b/..c")
    assert not Patterns([]).match("a")
    assert not Patterns([" "]).match(" ")
