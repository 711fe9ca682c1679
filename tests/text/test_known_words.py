"""`diptych.text.known_words`: which words of a query a training saw."""

from collections import Counter

import pytest

from diptych.text.known_words import KnownWords, content_words, count_words, words_text


def test_content_words_leave_out_stop_words_numbers_and_letters() -> None:
    assert content_words("A photo of the dog's 3 RED t-shirts, a dog & x") == ["dog", "red", "t-shirts"]
    assert content_words("in the of 12 !") == []


@pytest.mark.parametrize(
    ("known", "word"),
    [
        ("dog", "dogs"), ("dogs", "dog"), ("bus", "buses"), ("buses", "bus"), ("city", "cities"), ("run", "running"),
        ("running", "runs"), ("ride", "riding"), ("riding", "rides"), ("walk", "walked"), ("walking", "walked"),
        ("hike", "hiked"), ("hurry", "hurried"), ("fall", "falling"), ("snow-covered", "snow-covered"),
        ("eat", "eating"), ("box", "boxes"), ("jumped", "jump"), ("play", "played"), ("kiss", "kissing"),
    ],
)  # fmt: skip
def test_inflections_of_known_words_are_known(known: str, word: str) -> None:
    assert KnownWords(f"{known}\n").knows(word)


@pytest.mark.parametrize(
    ("known", "word"),
    [
        ("bu", "bus"),
        ("r", "red"),
        ("k", "king"),
        ("rat", "rating"),
        ("th", "thing"),
        ("glas", "glass"),
        ("dog", "dogma"),
    ],
)
def test_short_words_are_no_inflections(known: str, word: str) -> None:
    assert not KnownWords(f"{known}\n").knows(word)


def test_each_part_of_a_hyphenated_word_may_be_known() -> None:
    known = KnownWords("covered\nsnow\n")
    assert known.knows("snow-covered")
    assert not known.knows("moss-covered")


def test_lines_that_are_no_words_are_left_out() -> None:
    text = "dog\n\x1b[31mred\n<b>\na b\n" + "x" * 41 + "\nbête\n"
    assert KnownWords(text).words == {"dog", "bête"}


def test_a_file_from_another_system_says_the_same() -> None:
    """A mark at its start, other ends of lines, capitals, accents as characters of their own."""
    assert KnownWords("\ufeffdog\r\nCat\rbe\u0302te \n").words == {"dog", "cat", "b\u00eate"}
    assert content_words("Be\u0302te") == ["b\u00eate"]


def test_words_are_sorted_and_the_most_frequent_fit() -> None:
    counts = count_words(["a dog and a cat", "the dog runs"])
    assert counts == Counter({"dog": 2, "cat": 1, "runs": 1})
    assert words_text(counts, known=["boat"]) == "boat\ncat\ndog\nruns\n"
    many = Counter(
        {f"{chr(97 + a)}{chr(97 + b)}{chr(97 + c)}": 1 for a in range(26) for b in range(26) for c in range(26)}
    )
    many["zebra"] = 2
    text = words_text(many + Counter({f"{word}{word}": 1 for word in many}))
    assert len(text.encode()) <= 100_000
    assert "zebra\n" in text
