"""The name under which everything is fetched."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from diptych import __version__
from diptych.errors import ArgumentError

PRODUCT = "Diptych"  # the product token that a host names in robots.txt (RFC 9309, section 2.2.1)
_MAIL = re.compile(r"[^\s@()<>;:/\"\\]+@[^\s@()<>;:/\"\\]+\.[^\s@()<>;:/\"\\]+")
_MOST_CHARACTERS = 200


def user_agent(contact: str) -> str:
    """The User-Agent header: the product, its version, and who asks.

    `contact` is an e-mail address, or an http(s) page that says who collects and why. Raises ArgumentError otherwise.
    """
    text = contact.strip()
    if not text.isascii() or not text.isprintable() or len(text) > _MOST_CHARACTERS or not _is_contact(text):
        raise ArgumentError(
            f"{contact!r:.100} reaches nobody; expected an e-mail address or the address of a page (https://...).",
            remedy="Hosts are told it with every request, so that their owners can ask you to stop.",
            argument="contact",
        )
    return f"{PRODUCT}/{__version__} (+{text})"


def _is_contact(text: str) -> bool:
    if _MAIL.fullmatch(text):
        return True
    if any(mark in text for mark in ' ()<>"\\'):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
