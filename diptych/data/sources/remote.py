"""Shards behind HTTP or in object storage: downloaded completely, and resumed after an interrupted transfer.

Default limits for one shard: 32 GiB, four hours including retries, 1 KiB per second on average over a minute, and five
redirects, which must stay on http and https and must not lead from a public address to a private, loopback or
link-local one. `FetchLimits` has these numbers: pass one to `open_source`, or set DIPTYCH_FETCH_MAX_BYTES,
DIPTYCH_FETCH_DEADLINE_S, DIPTYCH_FETCH_LEAST_RATE and DIPTYCH_FETCH_REDIRECTS in the environment. A shard that
exceeds a limit is lost; the others are not.
"""

import errno
import http.client
import re
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from diptych.data.compressed import ENDINGS, unpack
from diptych.data.sources import object_storage
from diptych.data.sources.shards import ShardSource
from diptych.data.spooling import private
from diptych.errors import DataError, FetchError, TooSlowError
from diptych.untrusted.downloading import FetchLimits, opened, shown

TRIES, PAUSE_S = 6, 0.5  # pauses double, so six tries bridge an outage of 15 seconds
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # may succeed when tried again (RFC 9110, section 15; RFC 6585)
_NAME = re.compile(r"\w[\w.,=+ -]{0,150}")


def fetch_tar(url: str, folder: Path, limits: FetchLimits | None = None, *, pairs: bool = True) -> ShardSource:
    """The tar shard at an address; `pairs` is that of `ShardSource`. Raises DataError."""
    path = fetch_file(url, folder, limits)
    with path.open("rb") as file:
        if file.read(64).lstrip()[:1] == b"<":
            raise DataError(f"{shown(url)} is a page of text, not a tar.", "no tar")
    return ShardSource([unpack(path, folder) if path.name.lower().endswith(ENDINGS) else path], pairs=pairs)


def fetch_file(url: str, folder: Path, limits: FetchLimits | None = None) -> Path:
    """Download a file by its http(s) address or one of object storage into a folder, under its own name if that is an
    ordinary one. Raises DataError."""
    named = Path(unquote(urlsplit(url).path)).name
    path = folder / (named if _NAME.fullmatch(named) else f"shard{_ending(named)}")
    fetch = object_storage.download if object_storage.is_object_address(url) else download
    fetch(url, path, limits or FetchLimits.from_environment())
    return path


def _ending(name: str) -> str:
    return next((ending for ending in (*ENDINGS, ".parquet") if name.lower().endswith(ending)), ".tar")


def download(url: str, path: Path, limits: FetchLimits) -> None:
    """Fetches a file and resumes interrupted or stalled transfers if the server supports it.

    Raises DataError after TRIES tries in a row without progress or with a transfer that is too slow; and immediately if
    the server refuses (404), a redirect is not allowed, or a limit is exceeded.
    """
    failures, mark, deadline_s = 0, "", time.monotonic() + limits.deadline_s
    while True:
        before, begun = _size(path), time.monotonic()
        try:
            is_complete, mark = _resume_transfer(url, path, before, mark, limits, deadline_s)
            if is_complete:
                return
            error: Exception = OSError("the connection was cut")
        except FetchError as refusal:
            raise DataError(f"{shown(url)}: {refusal}", refusal.reason) from refusal
        except HTTPError as refusal:
            error = refusal
            if refusal.code not in _TRANSIENT and refusal.code != 416:  # 416: the remote file is shorter than ours
                raise DataError(f"{shown(url)}: HTTP {refusal.code}.", f"HTTP {refusal.code}") from refusal
            if refusal.code == 416:
                path.write_bytes(b"")
        except (OSError, ValueError, http.client.HTTPException) as failure:
            if isinstance(failure, DataError) or getattr(failure, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise  # a full disk: no retry
            error = failure
        received, took_s = _size(path) - before, time.monotonic() - begun
        is_slow = isinstance(error, TooSlowError) or received < limits.least_rate * took_s
        failures = failures + 1 if is_slow or received <= 0 else 0
        pause_s = PAUSE_S * 2 ** max(0, failures - 1)
        if failures >= TRIES:
            raise DataError(
                f"{shown(url)} could not be fetched in {TRIES} tries ({error}).", "download failed"
            ) from error
        if time.monotonic() + pause_s > deadline_s:
            raise DataError(
                f"{shown(url)} was not complete after {limits.deadline_s:,.0f} s ({error}).", "deadline"
            ) from error
        time.sleep(pause_s)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _resume_transfer(
    url: str, path: Path, have: int, mark: str, limits: FetchLimits, deadline_s: float
) -> tuple[bool, str]:
    """One try. Returns whether the file is complete, and its ETag."""
    headers = {"User-Agent": "diptych", "Accept-Encoding": "identity"}
    if have:  # without an ETag the server cannot confirm that the file is unchanged
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": mark} if mark else {})
    with opened(url, headers, limits, deadline_s) as transfer:
        goes_on = transfer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if transfer.status == 206 and not goes_on:
            raise http.client.HTTPException("the server sent a different part than was requested")
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
        raise DataError(f"{shown(url)} has more than {limits.max_bytes:,} bytes, so it is not fetched.", "too large")
