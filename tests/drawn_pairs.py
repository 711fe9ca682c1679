"""Pairs of small drawn pictures."""

import hashlib
import io

from PIL import Image

from diptych.collect.pairs import Found, Pair, Picture, Words


def drawn_pair(number: int, *, host: str = "example.org", **facts: object) -> Pair:
    """A pair whose picture, captions and addresses differ by number."""
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (number * 37 % 256, number * 11 % 256, 90)).save(buffer, "JPEG")
    content = buffer.getvalue()
    picture = Picture(content, ".jpg", 24, 16, 48, 32, hashlib.sha256(b"%d" % number).hexdigest(), number)
    captions = (Words(f"a square of colour {number}", "alt"), Words(f"colour number {number}", "figcaption"))
    found = Found(
        f"https://{host}/{number}.jpg", captions, f"https://{host}/page", "en", "CC0-1.0", 1_790_000_000.0 + number
    )
    return Pair(picture, captions, found, **facts)  # type: ignore[arg-type]
