"""What addresses of pages have in common: the same page under several, calendars, paths without an end."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit, urlunsplit

_MOST_REPEATS = 3  # of one folder in a path: /a/b/a/b/a/b/a/b comes from a link that is relative by mistake
_DIGITS = re.compile(r"\d+")
_MIXED = re.compile(r"(?=[^/&=]*\d)[0-9a-z]{8,}", re.I)


def key_of(url: str) -> bytes:
    """16 bytes by which a normalized address is known: the order of its query's parameters does not matter."""
    parts = urlsplit(url)
    query = "&".join(sorted(parts.query.split("&")))
    return hashlib.blake2b(urlunsplit(parts._replace(query=query)).encode(), digest_size=16).digest()


def shape_of(url: str) -> str:
    """What the addresses of a calendar or of numbered pages have in common: digits and ids are masked."""
    parts = urlsplit(url)
    masked = _MIXED.sub("*", f"{parts.path}?{parts.query}")
    return f"{parts.netloc}{_DIGITS.sub('0', masked)}"


def is_endless(url: str) -> bool:
    """Whether the path repeats a folder more often than a site would."""
    folders = [each for each in urlsplit(url).path.split("/") if each and not each.isdigit()]
    return any(folders.count(each) > _MOST_REPEATS for each in set(folders))
