"""WAT records: what a page links to, as JSON (Common Crawl, "WAT format")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diptych.collect.addresses import normalized
from diptych.collect.pages.extraction import Page
from diptych.collect.pages.metadata import in_opengraph
from diptych.collect.pairs import Found, Origin, Words
from diptych.collect.permission.reservations import refusal_in_headers, refusal_in_metas
from diptych.errors import JSONError
from diptych.untrusted.json import parse_json

# One of them is in a record that is of use: the rest is not parsed.
_MARKS = (b'"IMG@/src"', b"og:image", b"twitter:image")
_MOST_PICTURES = 1000
_MOST_TEXT = 2000  # characters of one text


def has_pictures(content: bytes) -> bool:
    """Whether a record may name a picture."""
    return any(mark in content for mark in _MARKS)


def page_in(content: bytes, time_s: float) -> Page | None:
    """The page of a WAT record, with its pictures; None where the record is damaged or not of a page."""
    try:
        envelope = parse_json(content)["Envelope"]
        header = envelope["WARC-Header-Metadata"]
        answer = envelope["Payload-Metadata"]["HTTP-Response-Metadata"]
        url, headers = str(header["WARC-Target-URI"]), _texts(answer.get("Headers"))
        page = answer.get("HTML-Metadata")
    except (JSONError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(page, Mapping):
        return None
    head = stated if isinstance(stated := page.get("Head"), Mapping) else {}
    metas = [(name, meta.get("content", "")) for meta in _maps(head.get("Metas")) if (name := _name(meta))]
    if refusal := refusal_in_headers(headers) or refusal_in_metas(metas):
        return Page(refusal=refusal)
    return Page(tuple(_found(url, head, page, metas, headers, time_s)))


def _found(
    url: str, head: Mapping[str, Any], page: Mapping[str, Any], metas: list[tuple[str, str]],
    headers: Mapping[str, str], time_s: float,
) -> Iterator[Found]:  # fmt: skip
    base = normalized(str(head.get("Base", "")), url, is_page=False) or url
    language = (
        {name.lower(): value for name, value in headers.items()}.get("content-language", "").split(",")[0].strip()
    )
    links = [_texts(each) for each in _items(page.get("Links")) if _is_of_use(each)]
    relations = [*_maps(head.get("Link")), *links]
    licences = (normalized(each.get("url", ""), base) for each in relations if "license" in each.get("rel", "").split())
    licence = next(filter(None, licences), "")
    pictures: dict[str, list[Words]] = {}
    for link in links:
        if link.get("path", "").upper() == "IMG@/SRC":
            _add(pictures, normalized(link.get("url", ""), base, is_page=False), _words(link))
    for described in in_opengraph(metas):
        _add(pictures, normalized(described.address, base, is_page=False), list(described.words))
    for address, words in pictures.items():
        yield Found(address, tuple(dict.fromkeys(words)), url, language, licence, time_s)


def _add(pictures: dict[str, list[Words]], address: str | None, words: list[Words]) -> None:
    if address and (address in pictures or len(pictures) < _MOST_PICTURES):
        pictures.setdefault(address, []).extend(words)


def _words(link: Mapping[str, str]) -> list[Words]:
    origins: tuple[Origin, ...] = ("alt", "title")
    texts = {origin: " ".join(link.get(origin, "").split()) for origin in origins}
    return [Words.of(texts[origin], origin) for origin in origins if 0 < len(texts[origin]) <= _MOST_TEXT]


def _name(meta: Mapping[str, str]) -> str:
    return (meta.get("property") or meta.get("name") or "").strip().lower()


def _is_of_use(link: object) -> bool:
    """Whether a link is a picture or may name the licence; most are neither."""
    return isinstance(link, Mapping) and ("rel" in link or str(link.get("path", ""))[:3].upper() == "IMG")


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _maps(value: object) -> list[dict[str, str]]:
    return [_texts(each) for each in _items(value)]


def _texts(value: object) -> dict[str, str]:
    """The texts of an object, by name; lists of texts are joined by commas."""
    if not isinstance(value, Mapping):
        return {}
    joined = {name: ",".join(map(str, each)) if isinstance(each, list) else each for name, each in value.items()}
    return {str(name): each for name, each in joined.items() if isinstance(each, str)}
