"""Texts as paragraphs: nothing is lost but marks, and each knows its line."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.text.paragraphs import PARAGRAPHS, WORDS, NotText, Paragraph, decode_text, paragraphs


def test_blank_lines_part_paragraphs() -> None:
    text = "\n One\n  two. \r\n\t\r\nThree\rfour\n\n\n\nFive"
    assert paragraphs(text) == [Paragraph(2, "One two."), Paragraph(5, "Three four"), Paragraph(10, "Five")]


def test_a_long_paragraph_is_split_at_sentences() -> None:
    sentence = " ".join(["word"] * 24) + " end."
    found = paragraphs("\n".join([sentence] * 5))
    assert [(piece.line, piece.text) for piece in found] == [
        (1, f"{sentence} {sentence}"),
        (3, f"{sentence} {sentence}"),
        (5, sentence),
    ]


def test_a_sentence_without_end_is_cut() -> None:
    found = paragraphs(" ".join(map(str, range(150))))
    assert [len(piece.text.split()) for piece in found] == [WORDS, WORDS, 150 - 2 * WORDS]


@given(st.text("ab .!\n\u00e9", max_size=2000))
def test_no_word_is_lost_and_lines_are_right(text: str) -> None:
    found = paragraphs(text)
    assert " ".join(piece.text for piece in found).split() == text.split()
    lines = text.split("\n")
    for piece in found:
        assert piece.text.split()[0] in lines[piece.line - 1].split()
        assert len(piece.text.split()) <= WORDS


@given(st.text("ab#*-`~<!>[]()_\n .:", max_size=300))
def test_any_markdown_is_read(text: str) -> None:
    for piece in paragraphs(text, markdown=True):
        assert 1 <= piece.line <= text.count("\n") + 1
        assert piece.text == " ".join(piece.text.split())


MARKDOWN = """---
title: Settings
---
# A *fine* day #

Going [up the hill](https://x.org "why") with **both** `dogs` and snake_case_names.

## Pictures
### Of hills
![A hill](hill.jpg)

```python
print("code")
```
<!-- not
this -->
- one
- [ ] two

> said __she__

***

## The end
"""


def test_markdown() -> None:
    assert paragraphs(MARKDOWN, markdown=True) == [
        Paragraph(4, "A fine day. Going up the hill with both dogs and snake_case_names."),
        Paragraph(8, "Pictures. Of hills. A hill"),
        Paragraph(17, "one two"),
        Paragraph(20, "said she"),
        Paragraph(24, "The end."),
    ]


def test_plain_text_keeps_its_marks() -> None:
    assert paragraphs("# not *a* heading") == [Paragraph(1, "# not *a* heading")]


def test_an_open_fence_hides_the_rest() -> None:
    assert paragraphs("a\n\n```\nb\n\nc", markdown=True) == [Paragraph(1, "a")]
    assert paragraphs("~~~\n```\nb\n~~~\nc", markdown=True) == [Paragraph(5, "c")]


def test_no_more_than_so_many() -> None:
    assert len(paragraphs("word\n\n" * (PARAGRAPHS + 5))) == PARAGRAPHS
    assert len(paragraphs("one\n\ntwo\n\nthree", limit=2)) == 2


def test_a_word_without_end_is_cut() -> None:
    pieces = paragraphs("x" * 100_000)
    assert all(len(word) <= 200 for piece in pieces for word in piece.text.split())
    assert len(re.sub(r"\s", "", "".join(piece.text for piece in pieces))) == 100_000


@pytest.mark.parametrize("content", [b"a\0b", b"\x01\x02\x03\x04 text", bytes(range(32)) * 9])
def test_binary_is_no_text(content: bytes) -> None:
    with pytest.raises(NotText):
        decode_text(content)


def test_a_letter_cut_in_two_is_left_out() -> None:
    assert decode_text("Köln".encode()[:2]) == "K"
    assert decode_text("Köln".encode("cp1252")) == "Köln"


# What keeps a pattern that looks ahead busy for ever: no end, or many beginnings
NASTY = (
    "<!--", "<!-- -", "`", " `", "`a``b```", "*a ", " *a", "_a ", "~~a ", "[", "[](", "![a](b ", "<a", "# ", "# a #",
    "#",
    "- [ ] ", "> ", "---x", "- ", "~~~", "\n", "# a\n", " *a\u0301", "\u0301", "(*", "a. ", '."',
)  # fmt: skip


def work(text: str) -> float:
    """Seconds of the processor, the least of three times."""
    spent = []
    for _ in range(2):
        before = time.process_time()
        paragraphs(text, markdown=True)
        spent.append(time.process_time() - before)
    return min(spent)


@pytest.mark.parametrize("unit", NASTY)
@pytest.mark.parametrize("line", [10**6, 9999], ids=["one line", "many lines"])
def test_work_grows_with_the_text_and_no_faster(unit: str, line: int) -> None:
    """Four times the text is about four times the work, where it would be sixteen."""

    def text(length: int) -> str:
        whole = (unit * (length // len(unit) + 1))[:length]
        return "\n".join(whole[at : at + line] for at in range(0, length, line))

    large = work(text(80_000))
    assert large < 0.1 or large < 10 * work(text(20_000))


def test_emphasis_ends_at_the_first_mark_that_can_end_it() -> None:
    assert paragraphs("a **b *c* d** `e` ``f`g`` _h_i_ ~~j k~~ * l * m*n* *o", markdown=True)[0].text == (
        "a b *c* d e f`g h_i j k * l * m*n* *o"
    )
    assert paragraphs("# a b ##\n\n## c#d\n\ne<!-- f\n-->g", markdown=True)[0].text == "a b. c#d. e g"
