"""What a page says of its pictures apart from its text: schema.org in JSON-LD, and OpenGraph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from diptych.collect.pairs import Origin, Words
from diptych.errors import JSONError
from diptych.untrusted.json import parse_json

_MAX_JSON, _MOST_NODES = 1 << 20, 5000
_TEXTS = ("caption", "description", "alternateName", "name", "headline")
_OPENGRAPH = {"og:image", "og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src"}


class Described(NamedTuple):
    """A picture's address as the page writes it, with texts and licence."""

    address: str
    words: tuple[Words, ...]
    licence: str = ""


def in_json_ld(text: str) -> list[Described]:
    """The pictures in a `script` of the type `application/ld+json`; none if it is no JSON."""
    try:
        root = parse_json(text, max_bytes=_MAX_JSON)
    except JSONError:
        return []
    found = list[Described]()
    for node in _nodes(root):
        kinds = node.get("@type", ())
        if "ImageObject" in (kinds if isinstance(kinds, list) else [kinds]):
            addresses = [*_addresses(node.get("contentUrl")), *_addresses(node.get("url"))][:1]
        else:  # a thing with pictures: its texts describe them
            addresses = _addresses(node.get("image"))
        texts = [node.get(name) for name in _TEXTS]
        words = tuple(Words.of(text, "schema.org") for text in texts if isinstance(text, str))
        licence = next(iter(_addresses(node.get("license"))), "")
        found += [Described(address, words, licence) for address in addresses]
    return found


def in_opengraph(metas: list[tuple[str, str]]) -> list[Described]:
    """The pictures in OpenGraph's and Twitter's meta elements; `metas` are names (lower case) with contents, in
    order. `og:image:alt` belongs to the picture before it, the page's description to all."""
    origin: Origin = "opengraph"
    texts = {name: content for name, content in reversed(metas) if content.strip()}
    shared = [texts.get("og:description") or texts.get("twitter:description"), texts.get("og:title")]
    found: dict[str, list[str]] = {}
    latest = ""
    for name, content in metas:
        if name in _OPENGRAPH:
            latest = content.strip()
            found.setdefault(latest, [])
        elif name in ("og:image:alt", "twitter:image:alt") and latest:
            found[latest].append(content)
    return [
        Described(address, tuple(Words.of(text, origin) for text in [*own, *shared] if text))
        for address, own in found.items()
        if address
    ]


def _nodes(root: object) -> Iterator[Mapping[str, object]]:
    waiting, seen = [root], 0
    while waiting and seen < _MOST_NODES:
        node = waiting.pop()
        seen += 1
        if isinstance(node, Mapping):
            yield node
            waiting += reversed([*node.values()])
        elif isinstance(node, list):
            waiting += reversed(node)


def _addresses(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list):
        return [address for each in value if isinstance(each, str) for address in _addresses(each)]
    return []
