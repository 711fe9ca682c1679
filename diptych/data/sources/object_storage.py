"""Files in object storage (s3://, gs://, az://) and behind file://, by fsspec.

Credentials are those that the storage's own library finds in the environment; none are part of an address.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.data.sources.shards import expand_braces
from diptych.data.spooling import DISK_FULL, private
from diptych.errors import DataError
from diptych.extras import EXTRAS
from diptych.untrusted.downloading import FetchLimits, shown

# Scheme -> the library that fsspec needs for it. No others: fsspec also knows schemes that join or run things.
LIBRARIES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "file": ""}
TRIES, PAUSE_S = 4, 0.5  # in a row without progress; pauses double
_START = re.compile(rf"({'|'.join(LIBRARIES)})://", re.I)
_BLOCK = 1 << 20
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def is_object_address(text: object) -> bool:
    """Whether this is the address of a file or folder in object storage."""
    return isinstance(text, str) and bool(_START.match(text))


def matching(address: str, endings: Sequence[str]) -> list[str]:
    """The addresses of the files that an address means, sorted: those of a folder that end so, those that match a
    pattern (`*`, `?`, braces as `{0000..0031}`), or the file itself. Raises DataError."""
    found = list[str]()
    for one in expand_braces(address):
        scheme, files = _file_system(one)
        path = files._strip_protocol(one)
        try:
            if re.search(r"[*?\[]", one):
                names = [str(name) for name in files.glob(path)]
            elif files.isdir(path):
                names = [str(name) for name in files.ls(path, detail=False)]
            else:
                found.append(one)
                continue
        except Exception as error:  # each storage's library has errors of its own
            raise _failed(one, error) from error
        found += sorted(f"{scheme}://{name}" for name in names if name.lower().endswith(tuple(endings)))
    return found


def version_of(address: str) -> str:
    """A text that changes with the file: its size, and its ETag or time of change. Raises DataError."""
    _, files = _file_system(address)
    try:
        info = files.info(files._strip_protocol(address))
    except Exception as error:
        raise _failed(address, error) from error
    marks = (info.get(name) for name in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "last_modified"))
    return f"{info.get('size')} {next((str(mark) for mark in marks if mark), '')}"


def download(address: str, path: Path, limits: FetchLimits) -> None:
    """Copy a file to `path`. What breaks off goes on where it was, up to TRIES times in a row without progress.
    Raises DataError; OSError where this disk is full."""
    failures, deadline_s = 0, time.monotonic() + limits.deadline_s
    path.unlink(missing_ok=True)
    while True:
        before = _size(path)
        try:
            return _copy_rest(address, path, limits, deadline_s)
        except DataError:
            raise
        except Exception as error:
            if getattr(error, "errno", None) in DISK_FULL:
                raise
            failures = 1 if _size(path) > before else failures + 1
            if failures >= TRIES or isinstance(error, _FINAL):
                raise _failed(address, error) from error
            time.sleep(PAUSE_S * 2 ** (failures - 1))


def _copy_rest(address: str, path: Path, limits: FetchLimits, deadline_s: float) -> None:
    _, files = _file_system(address)
    done = _size(path)
    with files.open(files._strip_protocol(address), "rb") as source, open(path, "ab", opener=private) as target:
        source.seek(done)
        while block := source.read(_BLOCK):
            done += len(block)
            if done > limits.max_bytes:
                raise DataError(
                    f"{shown(address)} has more than {limits.max_bytes:,} bytes, so it is not fetched.", "too large"
                )
            if time.monotonic() > deadline_s:
                raise DataError(f"{shown(address)} was not complete after {limits.deadline_s:,.0f} s.", "deadline")
            target.write(block)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _file_system(address: str) -> tuple[str, Any]:
    """The scheme and the fsspec file system of an address. Raises DataError where its library is not installed."""
    scheme = address.partition("://")[0].lower()
    try:
        import fsspec

        return scheme, fsspec.filesystem(scheme)
    except ImportError as error:
        library = LIBRARIES.get(scheme) or "fsspec"
        wanted = f"'diptych[{EXTRAS[library]}]'" if library in EXTRAS else library
        raise DataError(f"{scheme}:// needs {library}, which is not installed: pip install {wanted}") from error
    except Exception as error:
        raise _failed(address, error) from error


def _failed(address: str, error: Exception) -> DataError:
    reason = {FileNotFoundError: "missing", PermissionError: "no permission"}.get(type(error), "download failed")
    message = str(error) or type(error).__name__
    return DataError(f"{shown(address)} could not be read ({message:.300}).", reason)
