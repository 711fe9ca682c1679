"""Shards that lie behind HTTP: fetched whole, gone on with where a transfer breaks.

A shard may take 32 GiB, four hours with every try, and no less than 1 KiB a second on average of a minute; it may be
reached by five redirects, none of which leads to another scheme than http and https, or to a private, loopback or
link-local address where the first was none. `FetchLimits` has these numbers: `open_source` takes them, and the
environment has them for every command, as DIPTYCH_FETCH_MAX_BYTES, DIPTYCH_FETCH_DEADLINE_S, DIPTYCH_FETCH_LEAST_RATE
and DIPTYCH_FETCH_REDIRECTS. What goes beyond costs that shard alone.
"""

import errno
import http.client
import re
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from diptych.data.compressed import ENDINGS, unpack
from diptych.data.sources.shards import ShardSource
from diptych.data.temporary import private
from diptych.errors import DataError, FetchError, TooSlowError
from diptych.untrusted.downloading import FetchLimits, opened, shown

TRIES, PAUSE_S = 6, 0.5  # pauses double, so that six tries bridge an outage of a quarter of a minute
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # what may be over in a moment (RFC 9110, section 15; RFC 6585)
_NAME = re.compile(r"\w[\w.,=+ -]{0,150}")


def fetch_tar(url: str, folder: Path, limits: FetchLimits | None = None) -> ShardSource:
    """A tar shard by its address. Raises DataError that names it."""
    named = Path(unquote(urlsplit(url).path)).name
    path = folder / (named if _NAME.fullmatch(named) else "shard.tar")
    download(url, path, limits or FetchLimits.from_environment())
    with path.open("rb") as file:
        if file.read(64).lstrip()[:1] == b"<":
            raise DataError(f"{shown(url)} is a page of text, and no tar.", "no tar")
    return ShardSource([unpack(path, folder) if path.name.lower().endswith(ENDINGS) else path])


def download(url: str, path: Path, limits: FetchLimits) -> None:
    """Fetch a file. A transfer that breaks or stalls is gone on with where it was, if the server can.

    DataError after TRIES tries in a row that brought nothing, or brought it too slowly; and at once where the server
    says no (404), a redirect leads where it must not, or a limit is reached.
    """
    failures, mark, deadline_s = 0, "", time.monotonic() + limits.deadline_s
    while True:
        before, begun = _size(path), time.monotonic()
        try:
            whole, mark = _go_on(url, path, before, mark, limits, deadline_s)
            if whole:
                return
            error: Exception = OSError("the connection was cut")
        except FetchError as refusal:
            raise DataError(f"{shown(url)}: {refusal}", refusal.reason) from refusal
        except HTTPError as refusal:
            error = refusal
            if refusal.code not in _PASSING and refusal.code != 416:  # 416: the file there is shorter than ours
                raise DataError(f"{shown(url)}: HTTP {refusal.code}.", f"HTTP {refusal.code}") from refusal
            if refusal.code == 416:
                path.write_bytes(b"")
        except (OSError, ValueError, http.client.HTTPException) as failure:
            if isinstance(failure, DataError) or getattr(failure, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise  # trying again makes no room
            error = failure
        brought, took_s = _size(path) - before, time.monotonic() - begun
        is_slow = isinstance(error, TooSlowError) or brought < limits.least_rate * took_s
        failures = failures + 1 if is_slow or brought <= 0 else 0
        pause_s = PAUSE_S * 2 ** max(0, failures - 1)
        if failures >= TRIES:
            raise DataError(
                f"{shown(url)} could not be fetched in {TRIES} tries ({error}).", "download failed"
            ) from error
        if time.monotonic() + pause_s > deadline_s:
            raise DataError(
                f"{shown(url)} was not there in {limits.deadline_s:,.0f} s ({error}).", "deadline"
            ) from error
        time.sleep(pause_s)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _go_on(url: str, path: Path, have: int, mark: str, limits: FetchLimits, deadline_s: float) -> tuple[bool, str]:
    """One try: (whether the file is whole now, the server's mark of its version)."""
    headers = {"User-Agent": "diptych", "Accept-Encoding": "identity"}
    if have:  # without a mark nobody vouches that the rest is of the same file; shards seldom change under a run
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": mark} if mark else {})
    with opened(url, headers, limits, deadline_s) as transfer:
        goes_on = transfer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if transfer.status == 206 and not goes_on:
            raise http.client.HTTPException("the server sent another part than was asked for")
        done = have if goes_on else 0
        wanted = None if transfer.length is None else done + transfer.length
        _require_fits(url, wanted or 0, limits)
        with open(path, "ab" if goes_on else "wb", opener=private) as file:
            for block in transfer.blocks():
                _require_fits(url, done + len(block), limits)
                done += file.write(block)
        tag = transfer.headers.get("ETag", "")
        return wanted is None or done >= wanted, "" if tag.startswith("W/") else tag


def _require_fits(url: str, size: int, limits: FetchLimits) -> None:
    if size > limits.max_bytes:
        raise DataError(f"{shown(url)} has more than {limits.max_bytes:,} bytes; it is not fetched.", "too large")
