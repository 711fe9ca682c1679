"""One archive: its pages become a table of pictures with captions, and its own pictures become pairs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from diptych.collect.addresses import normalized
from diptych.collect.archives.found_table import FoundTable, read_found
from diptych.collect.archives.http_messages import Answer, answer_in, decoded_body
from diptych.collect.archives.record_reader import ArchiveRecord, records
from diptych.collect.archives.wat import has_pictures, page_in
from diptych.collect.captions.rules import RULES, CaptionRules
from diptych.collect.output.facts import facts_of
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.open_shard import OpenShard
from diptych.collect.pages.extraction import Page, read_page
from diptych.collect.pairs import Found, Pair, Picture
from diptych.collect.permission.reservations import refusal_in_headers
from diptych.collect.pictures.preparing import PictureRefused, prepare
from diptych.collect.pictures.rules import PICTURE_RULES, PictureRules
from diptych.errors import ArgumentError

FOUND, PAIRS = "found.parquet", "pairs.tar"
_ALL, _IMAGES = "all.parquet", "images"
_PAGES = ("text/html", "application/xhtml+xml")
# One of them is in a page with pictures: the others are not parsed
_MARKS = (b"<img", b"og:image", b"<IMG", b"twitter:image", b"ld+json", b"<amp-img", b"<Img", b"<source", b"<image")


@dataclass(frozen=True)
class ArchiveRules:
    """What is made of archives: the shorter side of pictures in px (None: as they are), the rules on captions and
    pictures that are `disabled`, and the languages to accept (all, if none are named)."""

    size: int | None = None
    disabled: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := sorted({*self.disabled} - {*RULES} - {*PICTURE_RULES}):
            names = ", ".join([*RULES, *PICTURE_RULES])
            raise ArgumentError(f"There is no rule {unknown[0]!r}. Choose from: {names}.", argument="disabled")

    def captions(self) -> CaptionRules:
        """The rules on captions."""
        return CaptionRules([name for name in self.disabled if name in RULES], languages=self.languages)

    def pictures(self) -> PictureRules:
        """The rules on pictures."""
        return PictureRules(disabled=[name for name in self.disabled if name in PICTURE_RULES])


class ArchiveSummary(NamedTuple):
    """What an archive gave: rows of its table, pairs, and what was left out, by reason."""

    found: int
    pairs: int
    left_out: dict[str, int]


def read_archive(
    path: Path, name: str, into: Path, rules: ArchiveRules, forgotten: Forgotten | None = None
) -> ArchiveSummary:
    """Read a WARC or WAT file, and write into the folder `into` the table FOUND, and the pairs of pictures that the
    archive has itself as the tar PAIRS.

    Pictures without a usable caption, and what reserves itself in its headers or meta elements, are left out and
    counted, and so is what `forgotten` covers. Raises OSError where the file cannot be read or the disk is full.
    """
    reading = _Reading(rules, forgotten, into / _IMAGES)
    with FoundTable(into / _ALL, name) as table:
        for record in records(path, reading.counts):
            for found in reading.read(record):
                table.add(found)
    reading.images.close()
    rows, pairs = table.rows, 0
    if reading.spans:
        rows, pairs = _split(reading, into, name, rules)
        (into / _ALL).unlink()
    else:
        (into / _ALL).replace(into / FOUND)
    (into / _IMAGES).unlink()
    return ArchiveSummary(rows, pairs, dict(reading.counts.most_common()))


class _Reading:
    """What was seen of an archive so far. `spans` are where the archive's pictures are in the file `images`, by
    address."""

    def __init__(self, rules: ArchiveRules, forgotten: Forgotten | None, images: Path):
        self.captions, self.forgotten, self.counts = rules.captions(), forgotten or None, Counter[str]()
        self.images, self.spans = images.open("w+b"), dict[str, tuple[int, int]]()
        self._seen = set[bytes]()

    def read(self, record: ArchiveRecord) -> Iterator[Found]:
        """The pictures that a record names, each once in the archive; a picture itself is kept for later."""
        if record.type == "metadata":
            yield from self._read_metadata(record)
        elif (answer := self._answer(record)) is None:
            return
        elif answer.media_type in _PAGES:
            yield from self._read_page(record, answer)
        elif answer.media_type.startswith("image/"):
            self._read_picture(record, answer)
        else:
            self.counts["of another type"] += 1

    def _answer(self, record: ArchiveRecord) -> Answer | None:
        if record.type == "resource":
            return Answer(200, {"content-type": record.media_type}, record.content)
        answer = answer_in(record.content)
        if answer is None:
            self.counts["no answer"] += 1
        elif answer.status != 200:
            self.counts["another status than 200"] += 1
            answer = None
        return answer

    def _read_metadata(self, record: ArchiveRecord) -> Iterator[Found]:
        if not record.media_type.startswith("application/json") or not has_pictures(record.content):
            self.counts["without pictures"] += 1
        elif (page := page_in(record.content, record.time_s)) is None:
            self.counts["damaged metadata"] += 1
        else:
            yield from self._usable(page)

    def _read_page(self, record: ArchiveRecord, answer: Answer) -> Iterator[Found]:
        if (body := decoded_body(answer)) is None:
            self.counts["damaged body"] += 1
        elif not any(mark in body for mark in _MARKS):
            self.counts["without pictures"] += 1
        else:
            page = read_page(body, record.url, headers=answer.headers, time_s=record.time_s, with_links=False)
            yield from self._usable(page)

    def _usable(self, page: Page) -> Iterator[Found]:
        if page.refusal:
            self.counts[page.refusal] += 1
        for found in page.found:
            key = hashlib.blake2b(found.picture_url.encode("utf-8", "replace"), digest_size=8).digest()
            if key in self._seen:
                self.counts["found before"] += 1
            elif self._is_forgotten(found):
                self.counts["asked to be forgotten"] += 1
            elif words := self.captions.usable(found):
                self._seen.add(key)
                yield replace(found, words=words)
            else:
                self.counts["no usable caption"] += 1

    def _is_forgotten(self, found: Found) -> bool:
        forgotten = self.forgotten
        return forgotten is not None and (
            forgotten.covers(url=found.picture_url) or forgotten.covers(url=found.page_url)
        )

    def _read_picture(self, record: ArchiveRecord, answer: Answer) -> None:
        if refusal := refusal_in_headers(answer.headers):
            self.counts[refusal] += 1
        elif record.is_truncated:
            self.counts["cut by its crawler"] += 1
        elif (body := decoded_body(answer)) is None:
            self.counts["damaged body"] += 1
        elif body and (url := normalized(record.url, is_page=False)) and url not in self.spans:
            self.spans[url] = self.images.tell(), len(body)
            self.images.write(body)


def _split(reading: _Reading, into: Path, name: str, rules: ArchiveRules) -> tuple[int, int]:
    """Divide what was found into pairs, whose pictures the archive has, and the table of the others. Returns how many
    rows and pairs there are."""
    shard, picture_rules = OpenShard(into / PAIRS, has_table=False), rules.pictures()
    with (into / _IMAGES).open("rb") as images, FoundTable(into / FOUND, name) as table:
        for found in read_found(into / _ALL):
            if (span := reading.spans.get(found.picture_url)) is None:
                table.add(found)
                continue
            images.seek(span[0])
            picture = _prepared(images.read(span[1]), reading, rules.size, picture_rules)
            if picture is not None:
                pair = Pair(picture, found.words, found)
                shard.add(facts_of(pair, f"{shard.pairs:09}"), picture.content, found.time_s)
    shard.finish()
    return table.rows, shard.pairs


def _prepared(content: bytes, reading: _Reading, size: int | None, rules: PictureRules) -> Picture | None:
    """A picture of the archive; None, and a count, where it is refused or forgotten."""
    if reading.forgotten is not None and reading.forgotten.covers(sha256=hashlib.sha256(content).hexdigest()):
        reading.counts["asked to be forgotten"] += 1
        return None
    try:
        return prepare(content, size=size, rules=rules)
    except PictureRefused as refused:
        reading.counts[refused.reason] += 1
        return None
