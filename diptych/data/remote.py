"""Shards that lie behind HTTP: fetched whole, gone on with where a transfer breaks."""

import errno
import http.client
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from diptych.data.compressed import ENDINGS, unpack
from diptych.data.samples import DataError
from diptych.data.shards import ShardSource

TRIES, PAUSE_S, TIMEOUT_S = 6, 0.5, 30.0  # pauses double, so that six tries bridge an outage of a quarter of a minute
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # what may be over in a moment (RFC 9110, section 15; RFC 6585)


def fetch_tar(url: str, folder: Path) -> ShardSource:
    """A tar shard by its address. Raises DataError that names it."""
    path = folder / (Path(unquote(urlsplit(url).path)).name or "shard.tar")
    download(url, path)
    return ShardSource([unpack(path, folder) if path.name.lower().endswith(ENDINGS) else path])


def download(url: str, path: Path) -> None:
    """Fetch a file. A transfer that breaks or stalls is gone on with where it was, if the server can.

    DataError after TRIES tries in a row that brought nothing, and at once where the server says no (404).
    """
    failures, mark = 0, ""
    while True:
        before = path.stat().st_size if path.exists() else 0
        try:
            whole, mark = _go_on(url, path, before, mark)
            if whole:
                return
            error: Exception = OSError("the connection was cut")
        except HTTPError as refusal:
            error = refusal
            if refusal.code not in _PASSING and refusal.code != 416:  # 416: the file there is shorter than ours
                raise DataError(f"{url}: HTTP {refusal.code} {refusal.reason}.", f"HTTP {refusal.code}") from refusal
            if refusal.code == 416:
                path.write_bytes(b"")
        except (OSError, http.client.HTTPException) as failure:
            if getattr(failure, "errno", None) == errno.ENOSPC:
                raise  # trying again makes no room
            error = failure
        failures = 0 if path.exists() and path.stat().st_size > before else failures + 1
        if failures >= TRIES:
            raise DataError(f"{url} could not be fetched in {TRIES} tries ({error}).", "download failed") from error
        time.sleep(PAUSE_S * 2 ** max(0, failures - 1))


def _go_on(url: str, path: Path, have: int, mark: str) -> tuple[bool, str]:
    """One try: (whether the file is whole now, the server's mark of its version)."""
    headers = {"User-Agent": "diptych", "Accept-Encoding": "identity"}
    if have:  # without a mark nobody vouches that the rest is of the same file; shards seldom change under a run
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": mark} if mark else {})
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as response:
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status == 206 and not goes_on:
            raise http.client.HTTPException("the server sent another part than was asked for")
        length = response.headers.get("Content-Length")
        done = have if goes_on else 0
        wanted = None if length is None else done + int(length)
        with open(path, "ab" if goes_on else "wb") as file:
            while chunk := response.read1(1 << 18):
                done += file.write(chunk)
        tag = response.headers.get("ETag", "")
        return wanted is None or done >= wanted, "" if tag.startswith("W/") else tag
