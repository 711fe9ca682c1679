"""A page's pictures with the words near them, its links, and what it forbids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import ElementNode, HTMLTree

from diptych.collect.addresses import normalized
from diptych.collect.pages.elements import above, elements
from diptych.collect.pages.metadata import Described, in_json_ld, in_opengraph
from diptych.collect.pages.versions import versions
from diptych.collect.pairs import Found, Origin, Words
from diptych.collect.permission.reservations import (
    nofollow_in_headers,
    nofollow_in_page,
    refusal_in_headers,
    refusal_in_page,
)

_MOST_PICTURES, _MOST_LINKS, _MOST_UP = 1000, 5000, 12
_MOST_TEXT = 2000  # characters of one text; a longer one is a chapter
# From the words that were written for the picture to those that merely stand near it.
_ORDER: tuple[Origin, ...] = (
    "alt", "figcaption", "schema.org", "title", "opengraph", "link", "paragraph", "heading", "list",
)  # fmt: skip
_RANK = {origin: rank for rank, origin in enumerate(_ORDER)}
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_READ_WITHOUT_LINKS = (
    "img", "amp-img", *_HEADINGS, "p", "html", "meta", "link", "base", 'script[type*="ld+json" i]',
    "a[rel]", "area[rel]",
)  # fmt: skip
_READ = (*_READ_WITHOUT_LINKS, "a:not([rel])", "area:not([rel])")
_NO_PAGE = re.compile(  # what is certainly no page is not asked for as one
    r"\.(?:jpe?g|png|webp|avif|gif|svgz?|ico|heic|tiff?|bmp|mp[34]|m4[av]|webm|og[gv]|mov|avi|wav|flac|pdf|epub|zip|"
    r"t?gz|bz2|xz|7z|rar|tar|exe|dmg|iso|apk|deb|rpm|css|js|json|woff2?|ttf|docx?|xlsx?|pptx?|csv)$",
    re.I,
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.I)


class Page(NamedTuple):
    """What is of use on a page. `refusal` is its own reservation against training: then nothing else is given.
    `canonical` is the address that it names as its own, "" if none."""

    found: tuple[Found, ...] = ()
    links: tuple[str, ...] = ()
    refusal: str | None = None
    canonical: str = ""


@dataclass
class _Seen:
    """A picture while the page is read."""

    addresses: list[str]
    words: list[Words]
    language: str = ""
    licence: str = ""


@dataclass
class _Reading:
    """What was seen of the page so far, in its own order."""

    url: str
    base: str
    language: str = ""
    licence: str = ""
    canonical: str = ""
    heading: str = ""
    paragraph: str = ""  # that stands before the next picture
    latest: _Seen | None = None  # a picture that no paragraph follows yet
    most_links: int = _MOST_LINKS
    links: dict[str, None] = field(default_factory=dict)
    metas: list[tuple[str, str]] = field(default_factory=list)
    described: list[Described] = field(default_factory=list)
    pictures: dict[str, _Seen] = field(default_factory=dict)


def read_page(
    content: bytes, url: str, *, headers: Mapping[str, str] | None = None, time_s: float = 0.0, with_links: bool = True
) -> Page:
    """Read the HTML that came from `url` with these headers at this time (seconds since 1970). `with_links` False
    leaves out the links, which cost a third of the time.

    Each picture is given once, at its largest version, with its words from the best origin to the weakest: `alt`,
    `figcaption`, schema.org, `title`, OpenGraph, the link around it, the paragraph and heading near it. Nothing raises:
    a broken page has fewer pictures.
    """
    headers = {name.lower(): value for name, value in (headers or {}).items()}
    if refusal := refusal_in_headers(headers):
        return Page(refusal=refusal)
    tree = HTMLTree.parse(_decoded(content, headers.get("content-type", "")))
    if tree is None or tree.document is None:
        return Page()
    if refusal := refusal_in_page(tree):
        return Page(refusal=refusal)
    reading = _Reading(url, url, language=headers.get("content-language", "").split(",")[0].strip())
    reading.most_links = _MOST_LINKS if with_links else 0
    for node in elements(tree, _READ if with_links else _READ_WITHOUT_LINKS):
        _read(reading, node)
    follows = not nofollow_in_headers(headers) and not nofollow_in_page(tree)
    links = tuple(reading.links)[:_MOST_LINKS] if follows else ()
    return Page(_found(reading, time_s), links, None, reading.canonical)


def _decoded(content: bytes, content_type: str) -> str:
    named = _CHARSET.search(content_type)
    encoding = None
    if content.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8"
    elif named:
        encoding = map_encoding_to_html5(named[1], fallback_utf8=False)
    encoding = encoding or detect_encoding(content, from_html_meta=True) or "utf-8"
    try:
        return bytes_to_str(content, encoding, "replace")
    except (LookupError, ValueError):
        return content.decode("utf-8", "replace")


def _read(reading: _Reading, node: ElementNode) -> None:
    tag = node.tag
    if tag in ("img", "amp-img"):
        _read_picture(reading, node)
    elif tag in ("a", "area"):
        _read_link(reading, node)
    elif tag in _HEADINGS:
        _read_heading(reading, node)
    elif tag == "p":
        _read_paragraph(reading, node)
    elif tag == "html":
        reading.language = (node.getattr("lang") or node.getattr("xml:lang") or "").strip() or reading.language
    elif tag == "meta":
        _read_meta(reading, node)
    elif tag == "link":
        _read_relation(reading, node)
    elif tag == "base" and reading.base == reading.url:
        reading.base = normalized(node.getattr("href") or "", reading.url, is_page=False) or reading.url
    elif tag == "script" and (node.getattr("type") or "").strip().lower() == "application/ld+json":
        reading.described += in_json_ld(node.text or "")


def _read_meta(reading: _Reading, node: ElementNode) -> None:
    name = (node.getattr("property") or node.getattr("name") or "").strip().lower()
    content = node.getattr("content") or ""
    if name:
        reading.metas.append((name, content[:_MOST_TEXT]))
    equivalent = (node.getattr("http-equiv") or "").strip().lower()
    if equivalent == "content-language":
        reading.language = reading.language or content.strip()
    elif equivalent == "refresh" and (to := re.search(r"url\s*=\s*[\"']?([^\"'\s>]+)", content, re.I)):
        _add_link(reading, to[1])


def _read_relation(reading: _Reading, node: ElementNode) -> None:
    relations = (node.getattr("rel") or "").lower().split()
    address = node.getattr("href") or ""
    if "license" in relations:
        reading.licence = reading.licence or normalized(address, reading.base) or ""
    if "canonical" in relations:
        reading.canonical = normalized(address, reading.base) or ""
    if "next" in relations or "prev" in relations:
        _add_link(reading, address)


def _read_link(reading: _Reading, node: ElementNode) -> None:
    relations = (node.getattr("rel") or "").lower().split()
    address = node.getattr("href")
    if "license" in relations:
        reading.licence = reading.licence or normalized(address or "", reading.base) or ""
    if address and "nofollow" not in relations:
        _add_link(reading, address)


def _add_link(reading: _Reading, address: str) -> None:
    if (
        len(reading.links) < reading.most_links
        and (url := normalized(address, reading.base))
        and not _NO_PAGE.search(url)
    ):
        reading.links[url] = None


def _read_heading(reading: _Reading, node: ElementNode) -> None:
    """What stands before a heading belongs to another section than what follows."""
    reading.heading, reading.paragraph, reading.latest = _text(node), "", None


def _read_paragraph(reading: _Reading, node: ElementNode) -> None:
    text = _text(node)
    if not text:
        return
    reading.paragraph = text
    if reading.latest is not None:
        reading.latest.words.append(Words.of(text, "paragraph"))
        reading.latest = None


def _read_picture(reading: _Reading, node: ElementNode) -> None:
    written = [url for each in versions(node) if (url := normalized(each.address, reading.base, is_page=False))]
    if not written:
        return
    known = next((reading.pictures[url] for url in written if url in reading.pictures), None)
    if known is None and len(reading.pictures) >= _MOST_PICTURES:
        return
    seen = known or _Seen(written, [])
    seen.words += [Words.of(text, origin) for name, origin in _ATTRIBUTES if (text := _short(node.getattr(name)))]
    reading.latest = None
    if not _read_around(seen, node) and known is None:
        if reading.paragraph:
            seen.words.append(Words.of(reading.paragraph, "paragraph"))
        reading.latest = seen
    reading.paragraph = ""
    if reading.heading:
        seen.words.append(Words.of(reading.heading, "heading"))
    for url in written:
        reading.pictures.setdefault(url, seen)


def _read_around(seen: _Seen, node: ElementNode) -> bool:
    """Add the words of the elements around a picture. Returns whether one of them is a paragraph with text."""
    is_in_paragraph = False
    for parent in above(node, _MOST_UP):
        seen.language = seen.language or (parent.getattr("lang") or "").strip()
        around: list[tuple[str, Origin]] = []
        if parent.tag == "a":
            around = [(_text(parent), "link"), (_short(parent.getattr("title")), "title")]
        elif parent.tag == "figure":
            around = [(_caption(parent), "figcaption")]
        elif parent.tag == "p":
            around = [(_text(parent), "paragraph")]
            is_in_paragraph = is_in_paragraph or bool(around[0][0])
        seen.words += [Words.of(text, origin) for text, origin in around if text]
    return is_in_paragraph


_ATTRIBUTES: tuple[tuple[str, Origin], ...] = (
    ("alt", "alt"), ("aria-label", "alt"), ("data-caption", "figcaption"), ("data-image-caption", "figcaption"),
    ("title", "title"), ("data-image-title", "title"), ("data-image-description", "figcaption"),
)  # fmt: skip


def _caption(figure: ElementNode) -> str:
    caption = figure.query_selector("figcaption")
    return "" if caption is None else _text(caption)


def _found(reading: _Reading, time_s: float) -> tuple[Found, ...]:
    for described in [*reading.described, *in_opengraph(reading.metas)]:
        url = normalized(described.address, reading.base, is_page=False)
        if url is None or (url not in reading.pictures and len(reading.pictures) >= _MOST_PICTURES):
            continue
        seen = reading.pictures.setdefault(url, _Seen([url], []))
        seen.words += described.words
        if described.licence and not seen.licence:
            seen.licence = normalized(described.licence, reading.base) or ""
    once = {id(seen): seen for seen in reading.pictures.values()}
    return tuple(_as_found(reading, seen, time_s) for seen in once.values())


def _as_found(reading: _Reading, seen: _Seen, time_s: float) -> Found:
    ordered = sorted(seen.words, key=lambda words: _RANK[words.origin])
    best: dict[str, Words] = {}
    for words in ordered:
        if words.text:
            best.setdefault(words.text, words)
    return Found(
        seen.addresses[0], tuple(best.values()), reading.url, seen.language or reading.language,
        seen.licence or reading.licence, time_s,
    )  # fmt: skip


def _text(node: ElementNode) -> str:
    return _short(node.text)


def _short(text: str | None) -> str:
    text = " ".join((text or "").split())
    return text if len(text) <= _MOST_TEXT else ""
