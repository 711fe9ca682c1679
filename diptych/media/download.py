"""A picture's bytes from an address."""

from __future__ import annotations

import time

URL_TIMEOUT_S, URL_MAX_BYTES = 20.0, 64 * 2**20


class DownloadError(Exception):
    """Nothing came, or too much, or too slowly; the message says which."""


def fetch(url: str) -> bytes:
    """What is at an http or https address, up to URL_MAX_BYTES within URL_TIMEOUT_S. Raises DownloadError."""
    import http.client

    from diptych.untrusted.downloading import FetchLimits, opened, shown

    limits = FetchLimits(URL_MAX_BYTES, URL_TIMEOUT_S)
    data = bytearray()
    try:
        with opened(url, {"User-Agent": "diptych"}, limits, time.monotonic() + URL_TIMEOUT_S) as transfer:
            for block in transfer.blocks():
                data += block
                if len(data) > URL_MAX_BYTES:
                    raise DownloadError(f"{shown(url)} has more than {URL_MAX_BYTES:,} bytes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DownloadError(str(error).rstrip(".")) from error
    return bytes(data)
