"""Captions that a whole site repeats."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from diptych.collect.captions.repeated import RepeatedCaptions, host_of
from diptych.collect.captions.rules import CaptionRules
from diptych.collect.pairs import Found, Words


def found(host: str, text: str, number: int) -> Found:
    return Found(f"https://cdn.example/{number}.jpg", (Words(text, "alt"),), f"https://{host}/{number}")


def test_a_caption_is_repeated_on_its_own_site_alone(tmp_path: Path) -> None:
    every = [found("www.shop.example", "Best boots in Town", at) for at in range(11)]
    every += [found("blog.example", "Best boots in town", at) for at in range(10)]
    with RepeatedCaptions(tmp_path / "counts.sqlite").add_all(every) as repeated:
        rules = CaptionRules(repeated=repeated)
        assert rules.verdicts(every[0])[0][1] == "repeated"
        assert rules.usable(every[-1])
        assert not repeated.is_repeated("elsewhere.example", "Best boots in town")
        assert CaptionRules(disabled=["repeated"], repeated=repeated).usable(every[0])


def test_a_large_site_may_repeat_more() -> None:
    repeated = RepeatedCaptions()
    for at in range(20_000):
        repeated.add_caption("photos.example", "sunset" if at % 1000 == 0 else f"picture {at}")  # 20 of 20,000
    assert not repeated.is_repeated("photos.example", "sunset")
    repeated.add_caption("photos.example", "Sunset")  # 21 are more than one in a thousand
    assert repeated.is_repeated("photos.example", " SUNSET ")


def test_counts_are_continued_from_their_file(tmp_path: Path) -> None:
    for _ in range(2):
        with RepeatedCaptions(tmp_path / "counts.sqlite") as repeated:
            for at in range(6):
                repeated.add(found("a.example", "Welcome to our farm", at))
    with RepeatedCaptions(tmp_path / "counts.sqlite") as repeated:
        assert repeated.is_repeated("a.example", "Welcome to our farm")


def test_a_part_counts_once_and_wholly_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.collect.captions.repeated._IN_MEMORY", 2)  # counts are written on the way
    every = [found("a.example", f"Welcome to our {('farm', 'barn', 'yard')[at % 3]}", at) for at in range(30)]

    def interrupted() -> Iterator[Found]:
        yield from every
        raise KeyboardInterrupt

    with RepeatedCaptions(tmp_path / "counts.sqlite") as repeated:
        with pytest.raises(KeyboardInterrupt):
            repeated.add_part("00000.tar", interrupted())
        repeated.add_part("00000.tar", every)
    with RepeatedCaptions(tmp_path / "counts.sqlite") as repeated:
        repeated.add_part("00000.tar", every)
        assert not repeated.is_repeated("a.example", "Welcome to our farm")  # 10 are not too many
        repeated.add_part("00001.tar", every[:1])
        assert repeated.is_repeated("a.example", "Welcome to our farm")
        assert not repeated.is_repeated("a.example", "Welcome to our barn")


def test_a_text_of_several_origins_counts_once_a_picture() -> None:
    words = (Words("A heron", "alt"), Words("a heron", "title"))
    repeated = RepeatedCaptions(most=3).add_all(
        Found(f"https://a.example/{at}.jpg", words) for at in range(3)
    )  # fmt: skip
    assert not repeated.is_repeated("a.example", "A heron")


def test_the_host_is_of_the_page_or_else_of_the_picture() -> None:
    assert host_of(found("WWW.a.example", "x", 1)) == "a.example"
    assert host_of(Found("https://cdn.example/x.jpg", ())) == "cdn.example"
    assert host_of(Found("nothing", (), "http://[::bad")) == ""
