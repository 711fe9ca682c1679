"""Downloads a picture."""

from __future__ import annotations

import time

from diptych.errors import FetchError

URL_TIMEOUT_S, URL_MAX_BYTES = 20.0, 64 * 2**20


def fetch(url: str, *, public_only: bool = False) -> bytes:
    """The content of an http or https URL, up to URL_MAX_BYTES within URL_TIMEOUT_S. With `public_only` no address of
    this machine or its network is asked. Raises FetchError."""
    import http.client

    from diptych.untrusted.downloading import FetchLimits, opened, shown

    limits = FetchLimits(URL_MAX_BYTES, URL_TIMEOUT_S)
    data, deadline_s = bytearray(), time.monotonic() + URL_TIMEOUT_S
    try:
        with opened(url, {"User-Agent": "diptych"}, limits, deadline_s, public_only=public_only) as transfer:
            for block in transfer.blocks():
                data += block
                if len(data) > URL_MAX_BYTES:
                    raise FetchError(f"{shown(url)} has more than {URL_MAX_BYTES:,} bytes", "too large")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, FetchError) else "download failed"
        raise FetchError(str(error).rstrip("."), reason) from error
    return bytes(data)
