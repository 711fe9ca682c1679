"""Pages and pictures of an archive: found, paired, refused, counted."""

import gzip
import io
import json
import zlib
from pathlib import Path

import pytest
from drawn_archives import page, record, response, wat, zipped
from PIL import Image

from diptych.collect.archives.found_table import read_found
from diptych.collect.archives.reading import FOUND, PAIRS, ArchiveRules, ArchiveSummary, read_archive
from diptych.collect.lists.tables import read_list
from diptych.collect.output.facts import pair_of
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.open_shard import content_of, stored_pairs
from diptych.collect.pairs import Found, Pair, Words
from diptych.errors import ArgumentError


def picture(seed: int = 1, side: int = 96) -> bytes:
    image = Image.linear_gradient("L").resize((side, side)).rotate(90 * seed).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def read(
    tmp_path: Path, *parts: bytes, forgotten: Forgotten | None = None, rules: ArchiveRules | None = None
) -> tuple[list[Found], list[Pair], ArchiveSummary]:
    path, into = tmp_path / "a.warc.gz", tmp_path / "into"
    into.mkdir(exist_ok=True)
    path.write_bytes(zipped(list(parts)))
    summary = read_archive(path, "a.warc.gz", into, rules or ArchiveRules(), forgotten)
    tar = into / PAIRS
    pairs = [pair_of(each.facts, content_of(each, tar)) for each in stored_pairs(tar)] if tar.exists() else []
    return list(read_found(into / FOUND)), pairs, summary


def test_pages_become_rows_that_list_takes(tmp_path: Path) -> None:
    found, pairs, summary = read(tmp_path, page(1), page(2))
    assert pairs == []
    assert summary == ArchiveSummary(2, 0, {})
    expected = Found(
        "https://example.org/1.jpg", (Words("a red boat on the river 1", "alt"),), "https://example.org/page1", "en",
        "", 1_772_366_400.0, {"archive": "a.warc.gz"},
    )  # fmt: skip
    assert found[0] == expected
    rows = list(read_list(tmp_path / "into" / FOUND, skipped := {}))
    assert [(row.url, row.captions) for row in rows] == [
        (f"https://example.org/{n}.jpg", (f"a red boat on the river {n}",)) for n in (1, 2)
    ]
    assert rows[0].columns["page_url"] == "https://example.org/page1"
    assert skipped == {}


@pytest.mark.parametrize("first", ["picture", "page"])
def test_pictures_of_the_archive_become_pairs(tmp_path: Path, first: str) -> None:
    parts = [response("https://example.org/1.jpg", picture(), "image/jpeg"), page(1)]
    found, pairs, summary = read(tmp_path, *(parts if first == "picture" else parts[::-1]), page(2))
    assert [each.picture_url for each in found] == ["https://example.org/2.jpg"]
    (pair,) = pairs
    assert pair.captions == (Words("a red boat on the river 1", "alt"),)
    assert pair.found.page_url == "https://example.org/page1"
    assert (pair.picture.width, summary.found, summary.pairs) == (96, 1, 1)
    assert sorted(path.name for path in (tmp_path / "into").iterdir()) == [FOUND, PAIRS]


def test_a_resource_is_a_picture_too_and_size_makes_it_smaller(tmp_path: Path) -> None:
    made = record("resource", "https://example.org/1.jpg", picture(side=200), "image/jpeg")
    _, (pair,), _ = read(tmp_path, made, page(1), rules=ArchiveRules(size=80))
    assert (pair.picture.width, pair.picture.original_width) == (80, 200)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (page(1, head='<meta name="robots" content="noai">'), "noai"),
        (page(1, head='<meta name="tdm-reservation" content="1">'), "tdm-reservation"),
        (response("https://example.org/", b"<img src=a.jpg alt='a red boat'>", "text/html", "X-Robots-Tag: noimageai"),
         "noimageai"),
        (response("https://example.org/", b"<p>no picture", "text/html"), "without pictures"),
        (response("https://example.org/", b"<img src=a.jpg alt=''>", "text/html"), "no usable caption"),
        (response("https://example.org/", b"<img src=a.jpg>", "text/html", status=404), "another status than 200"),
        (response("https://example.org/", b"%PDF", "application/pdf"), "of another type"),
        (record("response", "https://example.org/", b"no http", "application/http"), "no answer"),
        (response("https://example.org/", b"\x1f\x8bxx", "text/html", "Content-Encoding: gzip"), "damaged body"),
        (wat("https://example.org/", [{"path": "IMG@/src", "url": "a.jpg", "alt": "a red boat"}],
             [{"name": "robots", "content": "noindex, noai"}]), "noai"),
        (wat("https://example.org/", [{"path": "IMG@/src", "url": "a.jpg", "alt": "a red boat"}],
             headers={"TDM-Reservation": "1"}), "tdm-reservation"),
        (wat("https://example.org/", [{"path": "A@/href", "url": "b"}]), "without pictures"),
        (record("metadata", "https://a.org/", b'{"Envelope": "IMG@/src"', "application/json"), "damaged metadata"),
        (record("metadata", "https://example.org/", b'{"a": ["IMG@/src"]}', "application/json"), "damaged metadata"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_counted(tmp_path: Path, part: bytes, reason: str) -> None:
    found, _, summary = read(tmp_path, part, page(7))
    assert [each.picture_url for each in found] == ["https://example.org/7.jpg"]
    assert summary.left_out[reason] == 1 or reason == "damaged metadata"


@pytest.mark.parametrize(
    ("headers", "more", "body", "reason"),
    [
        (("X-Robots-Tag: noai",), (), picture(), "noai"),
        ((), ("WARC-Truncated: length",), picture()[:900], "cut by its crawler"),
        ((), (), picture(side=20), "small"),
        ((), (), picture()[:900], "truncated"),
    ],
)
def test_pictures_that_are_left_out_are_counted(
    tmp_path: Path, headers: tuple[str, ...], more: tuple[str, ...], body: bytes, reason: str
) -> None:
    part = response("https://example.org/1.jpg", body, "image/jpeg", *headers, more=more)
    _, pairs, summary = read(tmp_path, part, page(1))
    assert pairs == []
    assert summary.left_out == {reason: 1}


@pytest.mark.parametrize("encoding", ["chunked", "gzip", "deflate", "chunked that was joined"])
def test_bodies_are_decoded(tmp_path: Path, encoding: str) -> None:
    body = b"<img src=/1.jpg alt='a red boat on the river'>"
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:9], body[9:], b""))
    sent, header = {
        "chunked": (chunked, "Transfer-Encoding: chunked"),
        "gzip": (gzip.compress(body), "Content-Encoding: gzip"),
        "deflate": (zlib.compress(body), "Content-Encoding: deflate"),
        "chunked that was joined": (body, "Transfer-Encoding: chunked"),
    }[encoding]
    (found,), _, _ = read(tmp_path, response("https://example.org/", sent, "text/html", header))
    assert found.picture_url == "https://example.org/1.jpg"


def test_a_bomb_costs_its_record(tmp_path: Path) -> None:
    bomb = gzip.compress(b"<img src=/1.jpg alt='a red boat'>" * 3_000_000)
    found, _, summary = read(tmp_path, response("https://a.org/", bomb, "text/html", "Content-Encoding: gzip"), page(1))
    assert len(found) == 1
    assert summary.left_out == {"damaged body": 1}


def test_wat_records_have_pictures_with_alt_and_opengraph(tmp_path: Path) -> None:
    links = [
        {"path": "IMG@/src", "url": "../a.jpg", "alt": "a red boat on the river", "title": "Boats of the harbour"},
        {"path": "IMG@/src", "url": "data:image/png;base64,AA", "alt": "a red boat"},
        {"path": "A@/href", "url": "https://creativecommons.org/licenses/by/4.0/", "rel": "license"},
    ]
    metas = [
        {"property": "og:image", "content": "https://cdn.org/b.jpg"},
        {"property": "og:image:alt", "content": "a white horse in the snow"},
    ]
    found, _, _ = read(tmp_path, wat("https://example.org/x/y", links, metas, {"Content-Language": "en"}))
    licence, time_s = "https://creativecommons.org/licenses/by/4.0/", 1_772_366_400.0
    where = ("https://example.org/x/y", "en", licence, time_s, {"archive": "a.warc.gz"})
    words = (Words("a red boat on the river", "alt"), Words("Boats of the harbour", "title"))
    assert found[0] == Found("https://example.org/a.jpg", words, *where)
    assert found[1] == Found("https://cdn.org/b.jpg", (Words("a white horse in the snow", "opengraph"),), *where)
    assert len(found) == 2


def test_what_was_forgotten_is_left_out(tmp_path: Path) -> None:
    forgotten = Forgotten(tmp_path / "out")
    forgotten.remember([("domain", "example.com"), ("url", "https://example.org/2.jpg")])
    found, _, summary = read(tmp_path, page(1), page(2), page(3, host="www.example.com"), forgotten=forgotten)
    assert [each.picture_url for each in found] == ["https://example.org/1.jpg"]
    assert summary.left_out == {"asked to be forgotten": 2}


def test_a_picture_on_many_pages_is_found_once(tmp_path: Path) -> None:
    again = response("https://example.org/other", json.dumps("<img src=/1.jpg alt='another boat here'>").encode())
    found, _, summary = read(tmp_path, page(1), page(1), again)
    assert len(found) == 1
    assert summary.left_out["found before"] >= 1


def test_an_unknown_rule_is_refused() -> None:
    assert ArchiveRules(disabled=("aspect", "too-short")).pictures().disabled == ["aspect"]
    with pytest.raises(ArgumentError, match="no rule 'wrong'"):
        ArchiveRules(disabled=("wrong",))
