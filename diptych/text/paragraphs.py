"""Splits text files into paragraphs short enough for a text tower, each with its first line's number."""

from __future__ import annotations

import codecs
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

WORDS = 60  # about as many as fit in 77 tokens
PARAGRAPHS = 2000  # of one file
_WORD_LENGTH = 200  # characters; longer ones (base64, scripts without spaces) are split
_SENTENCE_END = re.compile(r".*[.!?…。!?][\"'”’»)\]]*", re.S)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
# Markdown inside a line: images and links become their text, and marks are removed. Each pattern scans a line once, so
# time is linear in the text.
_LINK = re.compile(r"!?\[([^][]*)\]\([^()\s]*(?:\s[^()]*)?\)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_EMPHASIS = re.compile(r"(?<!\w)(\*\*|__|\*|_|`+|~~)(?=\S)")
_MOST_BACKTICKS = 16  # in a mark; people write fewer
_LIST = re.compile(r"\s*(?:>\s?)*(?:[-*+]\s+|\d{1,3}[.)]\s+)?(?:\[[ xX]\]\s+)?")
_MARKED_LENGTH = 10_000  # characters; longer lines, which no person writes, keep their marks
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(?=\s)")
_RULE = re.compile(r"\s*([-=*_|:]\s*){3,}$")


class Paragraph(NamedTuple):
    """Some sentences joined to one line, and the number of their first line in the file, from 1."""

    line: int
    text: str


class NotText(ValueError):
    """Bytes that are not text: they contain zeros or control characters."""


def decode_text(content: bytes) -> str:
    """Decodes by a byte order mark of UTF-8 or UTF-16, else as UTF-8, else as Windows-1252. Raises NotText."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            text = content[len(mark) :].decode(encoding, "replace")
            if "\0" in text:
                raise NotText("it contains zeros")
            return text
    if len(_CONTROL.findall(content)) > len(content) // 100 or b"\0" in content:
        raise NotText("it contains zeros or control characters")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start >= len(content) - 3 and error.reason == "unexpected end of data":  # cut within a character
            return content[: error.start].decode("utf-8")
        return content.decode("cp1252", "replace")


def paragraphs(text: str, *, markdown: bool = False, limit: int = PARAGRAPHS) -> list[Paragraph]:
    """The first `limit` paragraphs, which blank lines separate; a long one is split between sentences into pieces of up
    to WORDS words.

    In Markdown, front matter, fenced code and comments are left out, links become their text, and a heading is joined
    to the next paragraph.
    """
    if markdown:
        text = _without_comments(text)
    lines = enumerate(re.split(r"\r\n?|\n", text), start=1)
    found = []
    for words in _joined(_plain_lines(list(lines))) if markdown else _blocks(lines):
        for piece in _pieces(words):
            found.append(Paragraph(piece[0][0], " ".join(word for _, word in piece)))
            if len(found) == limit:
                return found
    return found


_Words = list[tuple[int, str]]  # each with its line


def _blocks(lines: Iterator[tuple[int, str]]) -> Iterator[_Words]:
    """The words of each run of non-blank lines."""
    words: _Words = []
    for number, line in lines:
        here = [word[at : at + _WORD_LENGTH] for word in line.split() for at in range(0, len(word), _WORD_LENGTH)]
        if not here and words:
            yield words
            words = []
        words += [(number, word) for word in here]
    if words:
        yield words


def _pieces(words: _Words) -> Iterator[_Words]:
    """Pieces of as many whole sentences as fit in WORDS words; a longer sentence is split after WORDS words."""
    piece: _Words = []
    whole = 0  # words of the piece that are whole sentences
    for word in words:
        if len(piece) == WORDS:
            cut = whole or WORDS
            yield piece[:cut]
            piece, whole = piece[cut:], 0
        piece.append(word)
        if _SENTENCE_END.fullmatch(word[1]):
            whole = len(piece)
    if piece:
        yield piece


def _plain_lines(lines: _Words) -> Iterator[tuple[int, str]]:
    """The prose lines of Markdown; each heading is a block of its own between blank lines, and keeps one #."""
    fence = ""
    for number, line in lines[_front_matter(lines) :]:
        mark = _FENCE.match(line) if line else None
        if not line:
            yield number, ""
        elif fence or mark:
            closes = bool(fence) and line.strip().startswith(fence) and not line.strip().strip(fence[0])
            fence = "" if closes else fence or (mark[1] if mark else "")
            yield number, ""
        elif heading := _HEADING.match(line):
            words = line[heading.end() :].strip().rstrip("#").rstrip()
            yield from ((number, ""), (number, f"# {_unmarked(words)}"), (number, ""))
        elif _RULE.match(line):
            yield number, ""
        else:
            yield number, _unmarked(line)


def _front_matter(lines: _Words) -> int:
    """The number of lines at the start that are settings between two `---`."""
    if not lines or lines[0][1].rstrip() != "---":
        return 0
    ends = (at for at, (_, line) in enumerate(lines[1:], start=2) if line.rstrip() in ("---", "..."))
    return next(ends, 0)


def _without_comments(text: str) -> str:
    """Replaces comments by their line ends, so that line numbers stay."""
    parts, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        parts += [text[at:start], "\n" * text.count("\n", start, end)]
        at = end + 3
    return "".join([*parts, text[at:]])


def _unmarked(line: str) -> str:
    if len(line) > _MARKED_LENGTH:
        return line
    line = _without_emphasis(_TAG.sub(" ", _LINK.sub(r"\1", line)))
    listed = _LIST.match(line)
    return line[listed.end() :] if listed else line


def _without_emphasis(line: str) -> str:
    """Removes pairs of equal marks and keeps the text between: each mark is closed by the next that can close it."""
    ends: dict[str, list[int]] = {}
    parts, at, mark = [], 0, _EMPHASIS.search(line)
    while mark:
        start, end, after = mark.start(), -1, mark.start() + 1
        for sign in _signs(mark[1]):
            begin = start + len(sign)
            if (end := _ending(line, sign, begin + 1, ends)) >= 0:
                parts += [line[at:start], line[begin:end]]
                at = after = end + len(sign)
                break
        mark = _EMPHASIS.search(line, after)
    return "".join([*parts, line[at:]])


def _signs(mark: str) -> list[str]:
    """The mark, then the shorter marks that it is read as if it is not closed."""
    if mark[0] == "`":
        return ["`" * count for count in range(min(len(mark), _MOST_BACKTICKS), 0, -1)]
    return [mark, mark[0]] if mark in ("**", "__") else [mark]


def _ending(line: str, sign: str, after: int, ends: dict[str, list[int]]) -> int:
    """The position of the first closing `sign` from `after` on, which follows no space and precedes no word character;
    -1 if there is none. `ends` caches all positions."""
    if sign not in ends:
        ends[sign] = [match.start() for match in re.finditer(rf"(?<=\S)(?={re.escape(sign)}(?!\w))", line)]
    position = bisect_left(ends[sign], after)
    return ends[sign][position] if position < len(ends[sign]) else -1


def _joined(lines: Iterator[tuple[int, str]]) -> Iterator[_Words]:
    """The blocks, each with the headings before it joined to its front as sentences."""
    headings: _Words = []
    for words in _blocks(lines):
        if words[0][1] != "#":
            yield headings + words
            headings = []
        elif len(words) > 1:
            *rest, (number, last) = words[1:]
            headings += [*rest, (number, last if _SENTENCE_END.fullmatch(last) or last[-1] in ":;," else f"{last}.")]
    if headings:
        yield headings
