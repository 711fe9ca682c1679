"""What was found, as a page that a notebook shows."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from diptych.images import ImageError
from diptych.plots import thumbnail

if TYPE_CHECKING:
    from diptych.index.search import Found, Hit

_CARD = "display:inline-block;width:168px;margin:4px;vertical-align:top;font-size:11px;overflow-wrap:anywhere"


def found_html(found: Found) -> str:
    """A card for each hit: its picture where Pillow can read it, rank, score, z and name. Every word is escaped, and
    pictures are in the page itself: nothing is fetched."""
    cards = "".join(_card(rank, hit) for rank, hit in enumerate(found.hits, start=1))
    return f"<div>{cards or 'nothing was found'}<div>{found.searched:,} items searched</div></div>"


def _card(rank: int, hit: Hit) -> str:
    z = "" if hit.z is None else f", z {hit.z:.1f}"
    words = escape(hit.text or hit.path.name)
    return f'<div style="{_CARD}">{_picture(hit)}<div>{rank}. {hit.score:.3f}{z}</div><div>{words}</div></div>'


def _picture(hit: Hit) -> str:
    if hit.kind != "picture":
        return ""
    file = BytesIO()
    try:
        thumbnail(hit.path).convert("RGB").save(file, "JPEG", quality=80)
    except (ImageError, OSError):
        return ""
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
