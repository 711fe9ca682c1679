"""Where pairs come from: every source is a sequence of `Sample`, read one at a time, so that it may be larger than
memory."""

import glob
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from PIL import Image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


class DataError(ValueError):
    """A source that holds no pairs, or a sample that cannot be used. `reason` is short and countable."""

    def __init__(self, message: str, reason: str = "unusable"):
        super().__init__(message)
        self.reason = reason


class Sample(NamedTuple):
    """One picture, as a file's bytes or already open, with all of its captions."""

    image: bytes | Image.Image
    captions: tuple[str, ...]
    key: str


class Source(Protocol):
    """A sequence of samples, safe to read from several threads. `skipped` counts, by reason, what is in the source and
    is no pair. Reading a sample raises DataError or OSError where that one cannot be used."""

    skipped: dict[str, int]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def captions(self, index: int) -> tuple[str, ...]:
        """Those of one sample, without reading its picture."""
        ...

    def key(self, index: int) -> str:
        """What names the sample to a person."""
        ...


class _Place(NamedTuple):
    offset: int
    size: int


class ShardSource:
    """WebDataset tar shards: KEY.jpg beside KEY.json (`captions`, or `caption`) or KEY.txt (a caption a line).

    The shards' headers are read once; after that any sample is one seek away, so the whole set can be shuffled
    without holding it. Keys without both a picture and a caption are counted in `skipped`.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)
        self.skipped: dict[str, int] = {}
        self._entries: list[tuple[int, str, _Place, _Place, bool]] = []
        for shard in range(len(self.paths)):
            self._scan(shard)

    def _scan(self, shard: int) -> None:
        members: dict[str, dict[str, _Place]] = {}
        try:
            with tarfile.open(self.paths[shard], "r:") as tar:
                for member in tar:
                    if member.isfile():
                        stem, _, suffix = member.name.rpartition(".")
                        members.setdefault(stem, {})["." + suffix.lower()] = _Place(member.offset_data, member.size)
        except (tarfile.TarError, OSError) as error:
            raise DataError(f"{self.paths[shard]} cannot be read as a tar shard ({error}).") from error
        for key, parts in members.items():
            image = next((parts[s] for s in parts if s in IMAGE_SUFFIXES), None)
            text = parts.get(".json") or parts.get(".txt")
            if image is None or text is None:
                reason = "no picture" if image is None else "no caption"
                self.skipped[reason] = self.skipped.get(reason, 0) + 1
            else:
                self._entries.append((shard, key, image, text, ".json" in parts))

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        shard, key, image, text, is_json = self._entries[index]
        with open(self.paths[shard], "rb") as file:  # opened each time: thousands of shards would exhaust the handles
            words, picture = _read(file, text), _read(file, image)
        return Sample(picture, captions_of(words, is_json, key), key)

    def captions(self, index: int) -> tuple[str, ...]:
        shard, key, _, text, is_json = self._entries[index]
        with open(self.paths[shard], "rb") as file:
            return captions_of(_read(file, text), is_json, key)

    def key(self, index: int) -> str:
        shard, key, *_ = self._entries[index]
        return f"{key} in {self.paths[shard].name}"


def _read(file: BinaryIO, place: _Place) -> bytes:
    file.seek(place.offset)
    return file.read(place.size)


def captions_of(sidecar: bytes, is_json: bool, key: str) -> tuple[str, ...]:
    """The captions in a sidecar: JSON with `captions` or `caption`, or plain text with one a line.

    Raises DataError, which names the sample, where there is none or the file holds something else.
    """
    text = sidecar.decode("utf-8-sig", errors="replace")
    found = _json_captions(text, key) if is_json else text.splitlines()
    lines = tuple(line.strip() for line in found if line.strip())
    if not lines:
        raise DataError(f"{key} has no caption.", "no caption")
    return lines


def _json_captions(text: str, key: str) -> list[str]:
    try:
        fields = json.loads(text)
        found = fields.get("captions") or fields.get("caption") or []
        lines = [found] if isinstance(found, str) else list(found)
        if not all(isinstance(line, str) for line in lines):
            raise TypeError("a caption that is no text")
    except (ValueError, AttributeError, TypeError) as error:
        wanted = 'wanted {"captions": ["...", ...]} or {"caption": "..."}'
        raise DataError(f"the JSON beside {key} is {text[:40]!r} ({error}); {wanted}.", "damaged captions") from error
    return lines


class FolderSource:
    """Pictures with a caption file of the same stem beside each (`cat.jpg`, `cat.txt` or `cat.json`)."""

    def __init__(self, folder: Path):
        self.skipped: dict[str, int] = {}
        self._pairs: list[tuple[Path, Path]] = []
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES):
            sidecars = [s for s in (path.with_suffix(".json"), path.with_suffix(".txt")) if s.exists()]
            if sidecars:
                self._pairs.append((path, sidecars[0]))
            else:
                self.skipped["no caption"] = self.skipped.get("no caption", 0) + 1

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._pairs[index][0].read_bytes(), self.captions(index), self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        sidecar = self._pairs[index][1]
        return captions_of(sidecar.read_bytes(), sidecar.suffix == ".json", self.key(index))

    def key(self, index: int) -> str:
        return str(self._pairs[index][0])


def open_source(spec: str | Path) -> Source:
    """A folder of tar shards, a shard, a glob of shards, or a folder of pictures with captions beside them.

    Raises DataError that says what was looked for where nothing usable is there.
    """
    path = Path(spec)
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        source: Source = ShardSource(shards) if shards else FolderSource(path)
        wanted = "tar shards (*.tar), or pictures with a .txt or .json caption file of the same name beside each"
    else:
        shards = [path] if path.is_file() else sorted(Path(p) for p in glob.glob(str(spec)))
        if not shards:
            raise DataError(f"{spec} is neither a folder, nor a tar shard, nor a pattern that matches any.")
        source, wanted = ShardSource(shards), "samples of a picture and a .json or .txt of the same key"
    if not len(source):
        raise DataError(f"{spec} holds no pairs; wanted {wanted}.")
    return source


def all_captions(source: Source) -> Iterator[str]:
    """Every caption of a source, for training a tokenizer. Samples that cannot be read are passed over."""
    for index in range(len(source)):
        try:
            yield from source.captions(index)
        except (DataError, OSError):
            continue  # the loader meets it again, and counts it
