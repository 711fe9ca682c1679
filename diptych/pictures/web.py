"""A picture's bytes from an address."""

from __future__ import annotations

import time

from diptych.errors import ArgumentError

URL_TIMEOUT_S, URL_MAX_BYTES = 20.0, 64 * 2**20


class DownloadError(Exception):
    """Nothing came, or too much, or too slowly; the message says which."""


def fetch(url: str) -> bytes:
    """What is at an http or https address, up to URL_MAX_BYTES within URL_TIMEOUT_S. Raises DownloadError."""
    import http.client
    from urllib.request import Request, urlopen

    deadline_s = time.monotonic() + URL_TIMEOUT_S
    data = bytearray()
    try:
        with urlopen(Request(url, headers={"User-Agent": "diptych"}), timeout=URL_TIMEOUT_S) as response:
            while chunk := response.read1(2**16):
                data += chunk
                if len(data) > URL_MAX_BYTES or time.monotonic() > deadline_s:  # the timeout is for each read alone
                    raise ArgumentError(f"more than {URL_MAX_BYTES:,} bytes, or than {URL_TIMEOUT_S:g} s")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DownloadError(str(error)) from error
    return bytes(data)
