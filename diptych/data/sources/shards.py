"""WebDataset tar shards."""

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from diptych.data.compressed import ENDINGS, unpack
from diptych.data.samples import IMAGE_SUFFIXES, MAX_SIDECAR_BYTES, Sample, Source, Stream, captions_of, count
from diptych.data.spooling import DISK_FULL, remove_with, unpacking
from diptych.errors import DataError
from diptych.untrusted.regular_files import MAX_BYTES, open_file

SHARDS = (".tar", *ENDINGS)
UNPACK_BYTES = 4 << 30  # larger compressed sets are unpacked shard by shard
# The kinds of a sample's files; each has an offset and a size, or -1. A .txt may contain only tags.
_KINDS = ("image", "json", "caption", "txt")
# Metadata files that macOS's tar and zip add for each file
_MACOS_EXTRA = re.compile(r"(^|/)(\._[^/]*$|__MACOSX/)")
_NAMES = {"text": "txt", "img": "image"}
_MAX_NAME_CHARS = 4096  # more than file systems allow
_MAX_HEADER_BYTES, _LONG_NUMBER = 1 << 16, re.compile(rb"\d{100}")
_MAX_SHARDS = 1_000_000  # the most that braces may expand to
_MAX_MEMBERS = 20_000_000  # of a shard: its keys are in memory
# The errors of tarfile for invalid headers: RecursionError for a thousand headers that extend each other
DAMAGE = (tarfile.TarError, OSError, ValueError, LookupError, ArithmeticError, TypeError, RecursionError, MemoryError)


def is_shard(path: Path) -> bool:
    """Whether a file has the ending of a tar, compressed or not."""
    return path.name.lower().endswith(SHARDS)


def open_shards(paths: Sequence[Path]) -> Source | Stream:
    """Tar shards. Compressed ones are unpacked into a temporary folder, or shard by shard while reading if they are
    larger than UNPACK_BYTES."""
    packed = [path for path in paths if path.name.lower().endswith(ENDINGS)]
    if not packed:
        return ShardSource(paths)
    if sum(path.stat().st_size for path in packed if path.exists()) > UNPACK_BYTES:
        names = {str(path): path for path in paths}
        fetch = partial(_fetch, paths=names)
        return Stream(list(names), fetch, f"{len(names)} tar shards, unpacked as they are read")
    with unpacking() as folder:
        plain, lost = _unpacked(paths, packed, folder)
        source = ShardSource(plain)
        remove_with(source, folder)
    for path in lost:
        count(source.skipped, f"damage in {path.name}")
    source.form = "tar shards, unpacked"
    return source


def _unpacked(paths: Sequence[Path], packed: Sequence[Path], folder: Path) -> tuple[list[Path], dict[Path, Exception]]:
    """The shards as plain tars, and those that cannot be unpacked. Raises DataError if none can or the disk is full."""
    plain: list[Path] = []
    lost: dict[Path, Exception] = {}
    for path in paths:
        try:
            plain.append(unpack(path, folder) if path in packed else path)
        except (DataError, OSError) as error:
            if getattr(error, "errno", None) in DISK_FULL:
                raise
            lost[path] = error
    if not plain:
        raise next(iter(lost.values()))
    return plain, lost


def _fetch(shard: str, folder: Path, paths: dict[str, Path]) -> "ShardSource":
    return ShardSource([unpack(paths[shard], folder) if shard.lower().endswith(ENDINGS) else paths[shard]])


class ShardSource:
    """WebDataset tar shards: KEY.jpg (or .img) with KEY.json (`captions`, `caption`, `text`), KEY.caption, KEY.txt or
    KEY.text (one caption on each line).

    The shards' headers are read once; then each sample can be read at its offset, so the whole set can be shuffled
    without being in memory. Keys without a picture or without a caption are counted in `skipped`, and so are damaged
    shards, whose samples before the damage are used. Raises DataError if no sample is left. With `pairs` False,
    pictures alone are samples too, and captions that cannot be read are none.
    """

    form = "tar shards"

    def __init__(self, paths: Sequence[Path], *, pairs: bool = True):
        self.paths, self._pairs = list(paths), pairs
        self.skipped: dict[str, int] = {}
        self._keys: list[str] = []
        self._damage: list[str] = []
        rows = [row for shard in range(len(self.paths)) for row in self._scan(shard)]
        self._spans = np.array(rows, np.int64).reshape(-1, 1 + 2 * len(_KINDS))
        if self._damage and not rows:
            raise DataError(self._damage[0], "damaged shard")

    def _scan(self, shard: int) -> list[tuple[int, ...]]:
        """(shard, offset and size of each kind) of every sample; adds the keys to `_keys`."""
        rows = []
        for key, files in self._members(self.paths[shard]).items():
            if "image" in files and (len(files) > 1 or not self._pairs):
                rows.append((shard, *(number for kind in _KINDS for number in files.get(kind, (-1, -1)))))
                self._keys.append(key)
            elif files:  # other files are ignored
                count(self.skipped, "no caption" if "image" in files else "no picture")
        return rows

    def _members(self, path: Path) -> dict[str, dict[str, tuple[int, int]]]:
        """Key -> kind -> (offset, size), of the readable part of the shard."""
        found: dict[str, dict[str, tuple[int, int]]] = {}
        try:
            for name, offset, size in members(path):
                key, kind = _key_and_kind(name)
                if kind not in _KINDS or _MACOS_EXTRA.search(name):
                    continue
                if len(name) > _MAX_NAME_CHARS:
                    count(self.skipped, f"a name of over {_MAX_NAME_CHARS:,} characters")
                    continue
                found.setdefault(key, {})[kind] = (offset, size)
        except DAMAGE as error:
            self._damage.append(f"{path} cannot be read as a tar shard ({error}); copy or download it again.")
            count(self.skipped, f"damage in {path.name}")
        return found

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Sample:
        with self._opened(index) as file:
            image = read_member(file, self._spans[index, 1:3].tolist(), MAX_BYTES, self.key(index))
            return Sample(image, self._captions(index, file), self._keys[index])

    def captions(self, index: int) -> tuple[str, ...]:
        with self._opened(index) as file:
            return self._captions(index, file)

    def _opened(self, index: int) -> BinaryIO:
        """Opens the shard for one read: thousands of open shards would exhaust the file handles."""
        return open_file(self.paths[self._spans[index, 0]])

    def _captions(self, index: int, file: BinaryIO) -> tuple[str, ...]:
        """The captions of the first file that has any. Raises DataError for damaged JSON."""
        key, spans = self._keys[index], self._spans[index, 3:].reshape(-1, 2)
        present = [at for at, (offset, _) in enumerate(spans) if offset >= 0]
        for at in present:
            try:
                content = read_member(file, spans[at].tolist(), MAX_SIDECAR_BYTES, key)
                return captions_of(content, _KINDS[1 + at] == "json", key)
            except DataError as error:
                if self._pairs and (error.reason != "no caption" or at == present[-1]):
                    raise
        assert not self._pairs, "a sample without a caption file was left out"
        return ()

    def key(self, index: int) -> str:
        return f"{self._keys[index]} in {self.paths[self._spans[index, 0]].name}"


class Headers:
    """A tar file that returns no more bytes at a time than a header may have: tarfile trusts the lengths in headers,
    and its parsing of numbers in them takes quadratic time (CVE-2024-6232)."""

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int = -1) -> bytes:
        """Some bytes of a header. Raises ReadError for an implausible one."""
        if not 0 <= size <= _MAX_HEADER_BYTES or _LONG_NUMBER.search(data := self._read(size)):
            raise tarfile.ReadError("a header is invalid")
        return data


def members(path: Path) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of the regular files in a tar, in order; links, devices and sparse files are left out.

    Raises one of DAMAGE for an invalid or truncated tar, after its readable members.
    """
    with open_file(path) as file, tarfile.open(fileobj=cast(BinaryIO, Headers(file)), mode="r:") as tar:
        end = os.fstat(file.fileno()).st_size
        at = -1
        for number, member in enumerate(tar):
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all members
            if member.size < 0 or tar.offset <= at or number >= _MAX_MEMBERS:
                raise tarfile.ReadError("a header is invalid")
            if member.offset_data + member.size > end:
                raise tarfile.ReadError("it ends too early")
            at = tar.offset
            if member.isfile() and not member.issparse():
                yield member.name, member.offset_data, member.size
        _require_end(file, tar.offset)


def _key_and_kind(name: str) -> tuple[str, str]:
    """`d/a.jpg` -> ("d/a", "image"); `d/a.jpg.txt` has the same key."""
    key, _, suffix = name.rpartition(".")
    kind = "image" if f".{suffix.lower()}" in IMAGE_SUFFIXES else _NAMES.get(suffix.lower(), suffix.lower())
    stem, _, inner = key.rpartition(".")
    return (stem if kind != "image" and f".{inner.lower()}" in IMAGE_SUFFIXES else key), kind


def _require_end(file: BinaryIO, offset: int) -> None:
    """Raises ReadError unless a block of zeros is at `offset` and only zeros follow.

    tarfile treats a damaged, zeroed or truncated header as the end, and would silently lose the members after it.
    """
    file.seek(offset)
    if len(block := file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends without a block of zeros, so it may be cut")
    if any(block):
        raise tarfile.ReadError(f"the header at byte {offset} is damaged")
    while block := file.read(1 << 20):
        if block.count(0) < len(block):
            raise tarfile.ReadError(f"data follows its end at byte {offset}")


def read_member(file: BinaryIO, folder: Sequence[int], limit: int, key: str) -> bytes:
    """The bytes of a tar's member at `span` (offset, size). Raises DataError naming `key` above `limit` bytes."""
    offset, size = map(int, folder)
    if size > limit:
        raise DataError(f"{key} has {size:,} bytes; at most {limit:,} are read.", "too large")
    file.seek(offset)
    return file.read(size)


_BRACES = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}|\{([^{}]*,[^{}]*)\}")


def expand_braces(pattern: str) -> list[str]:
    """Expands braces as a shell does: `{0000..0031}.tar` -> 0000.tar, 0001.tar, ...; `{train,dev}.tar` -> train.tar,
    dev.tar. Raises DataError for more than _MAX_SHARDS names."""
    if (found := _BRACES.search(pattern)) is None:
        return [pattern]
    first, last, words = found.groups()
    if words is None:
        step = 1 if int(first) <= int(last) else -1
        padded = any(len(number) > 1 and number[0] == "0" for number in (first, last))
        width = max(len(first), len(last)) if padded else 0
        numbers = range(int(first), int(last) + step, step)
        choices = [f"{number:0{width}}" for number in numbers[: _MAX_SHARDS + 1]]
    else:
        choices = words.split(",")
    rests = expand_braces(pattern[found.end() :])
    if len(choices) * len(rests) > _MAX_SHARDS:
        raise DataError(f"{pattern:.300} names more than {_MAX_SHARDS:,} files.")
    return [pattern[: found.start()] + choice + rest for choice in choices for rest in rests]
