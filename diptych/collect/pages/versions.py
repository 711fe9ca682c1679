"""The versions of one picture that a page offers, and the largest of them: `srcset`, `<picture>`, the attributes of
lazy loading, and the link around a thumbnail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from resiliparse.parse.html import ElementNode

from diptych.collect.pages.elements import above

_SRCSETS = ("srcset", "data-srcset", "data-lazy-srcset", "data-original-set")
# Attributes with the address of the original, of what is loaded when it comes into view, and of what is there at first
# (often a placeholder).
_ORIGINALS = ("data-orig-file", "data-full", "data-full-src", "data-large-file", "data-hi-res-src", "data-zoom-image")
_LAZY = ("data-src", "data-lazy-src", "data-original", "data-lazy", "data-url", "data-echo")
_PICTURE = re.compile(r"\.(?:jpe?g|png|webp|avif|gif|heic|tiff?|bmp)(?:[?#]|$)", re.I)
_VECTOR = re.compile(r"\.svgz?(?:[?#]|$)", re.I)
_TYPES = re.compile(r"image/(?:jpe?g|png|webp|avif|gif|bmp|tiff|heic|heif)\b", re.I)
_ENTRY = re.compile(r"[\s,]*([^\s,]\S*)")
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([wx])")
_MOST_VERSIONS, _LEAST_PX, _USUAL_PX = 100, 3, 500.0


class Version(NamedTuple):
    """An address as the page writes it, and its width in px as far as the page says it (0: unknown)."""

    address: str
    width: float


def versions(image: ElementNode) -> list[Version]:
    """All versions of an element `img` or `amp-img`, the largest first; empty for a tracking pixel, a drawing (SVG)
    or a picture within the page (data:)."""
    width = _number(image.getattr("width"))
    if 0 < width < _LEAST_PX or 0 < _number(image.getattr("height")) < _LEAST_PX:
        return []
    found = [*_originals(image), *_sets(image, width)]
    found += [Version(value, width) for name in _LAZY if (value := image.getattr(name))]
    if value := image.getattr("src"):
        # Next to a lazy attribute it is the placeholder
        found.append(Version(value, -1.0 if found else width))
    usable = [each for each in found if _is_usable(each.address)]
    return sorted(dict.fromkeys(usable), key=lambda each: -each.width)


def parse_srcset(text: str, width: float = 0.0) -> list[Version]:
    """The candidates of a `srcset` (HTML, section 4.8.4.2.3): an address may contain commas, but not end with one. A
    density counts times `width`, the width at which the page shows the picture."""
    found, position = list[Version](), 0
    while len(found) < _MOST_VERSIONS and (match := _ENTRY.match(text, position)):
        address, position = match[1], match.end()
        descriptor = ""
        if address.endswith(","):
            address = address.rstrip(",")
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            descriptor, position = text[position:end], end
        found.append(Version(address, _width(descriptor, width)))
    return found


def _width(descriptor: str, shown: float) -> float:
    size = _SIZE.search(descriptor)
    if size is None:
        return shown or 1.0
    return float(size[1]) * ((shown or _USUAL_PX) if size[2] == "x" else 1.0)


def _originals(image: ElementNode) -> Iterator[Version]:
    for name in _ORIGINALS:
        if value := image.getattr(name):
            yield Version(value, 1e9)
    for parent in above(image, 3):  # an `img` in a `picture` in an `a`
        if parent.tag == "a" and _PICTURE.search(address := parent.getattr("href") or ""):
            yield Version(address, 2e9)


def _sets(image: ElementNode, width: float) -> Iterator[Version]:
    elements = [image]
    parent = image.parent
    if parent is not None and parent.tag == "picture":
        sources = [each for each in parent.child_nodes if isinstance(each, ElementNode) and each.tag == "source"]
        elements += filter(_is_readable, sources)
    for element in elements:
        for name in _SRCSETS:
            if value := element.getattr(name):
                yield from parse_srcset(value, width)


def _is_readable(source: ElementNode) -> bool:
    kind = source.getattr("type")
    return not kind or bool(_TYPES.match(kind))


def _is_usable(address: str) -> bool:
    start = address.lstrip()[:11].lower()
    return (
        bool(start)
        and not start.startswith(("data:", "blob:", "javascript:", "about:"))
        and not _VECTOR.search(address)
    )


def _number(text: str | None) -> float:
    digits = re.match(r"\s*(\d{1,6})(?:px|\s*$)", text or "")
    return float(digits[1]) if digits else 0.0
