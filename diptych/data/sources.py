"""Where pairs come from: every source is a sequence of `Sample`, read one at a time, so that it may be larger than
memory."""

import glob
import json
import tarfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from PIL import Image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


class DataError(ValueError):
    """A source that holds no pairs, or cannot be read."""


class Sample(NamedTuple):
    """One picture, as a file's bytes or already open, with all of its captions."""

    image: bytes | Image.Image
    captions: tuple[str, ...]
    key: str


class Source(Protocol):
    """A sequence of samples, safe to read from several threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


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
        self._files = threading.local()

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
        file = self._file(shard)
        words = _read(file, text).decode("utf-8", errors="replace")
        return Sample(_read(file, image), captions_of(words, is_json), key)

    def _file(self, shard: int) -> BinaryIO:
        """One handle per shard and thread: a seek in one thread must not move another's."""
        handles: dict[int, BinaryIO] = self._files.__dict__.setdefault("handles", {})
        if shard not in handles:
            handles[shard] = open(self.paths[shard], "rb")  # noqa: SIM115 (lives as long as the source)
        return handles[shard]


def _read(file: BinaryIO, place: _Place) -> bytes:
    file.seek(place.offset)
    return file.read(place.size)


def captions_of(text: str, is_json: bool) -> tuple[str, ...]:
    """The captions in a sidecar: JSON with `captions` or `caption`, or plain text with one a line."""
    if is_json:
        fields = json.loads(text)
        found = fields.get("captions") or fields.get("caption") or ()
        lines: Iterable[str] = [found] if isinstance(found, str) else found
    else:
        lines = text.splitlines()
    return tuple(line.strip() for line in lines if line.strip())


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
        path, sidecar = self._pairs[index]
        text = sidecar.read_text(encoding="utf-8", errors="replace")
        return Sample(path.read_bytes(), captions_of(text, sidecar.suffix == ".json"), str(path))


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


def all_captions(source: Source) -> Iterable[str]:
    """Every caption of a source, for training a tokenizer."""
    for index in range(len(source)):
        yield from source[index].captions
