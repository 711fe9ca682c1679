"""What the tests of the index share: a model that is quick and tells pictures apart, and reading without processes."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from diptych.failures import Failure
from diptych.media.items import File, FileContents
from diptych.media.preprocessing import Preprocess
from diptych.media.reading.file import UnreadableFileError, read_file

DIM = 16
SPEC = Preprocess(size_px=8)
_PROJECTION = np.random.default_rng(0).normal(size=(8 * 8 * 3, DIM))


class PixelModel:
    """Vectors that are a fixed projection of the pixels, or of a text's hash; `embedded` counts them."""

    preprocessing = SPEC
    dim = DIM
    notes: tuple[str, ...] = ()
    engine = SimpleNamespace(describe=lambda: "in the test", label=lambda: "in the test")

    def __init__(self, fingerprint: str = "pixels-1", source: str = "tests/pixels"):
        self.fingerprint, self.source = fingerprint, source
        self.embedded = 0
        self._sign = -1 if fingerprint.endswith("2") else 1

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.embedded += len(pixels)
        return self._sign * _unit((pixels.reshape(len(pixels), -1).astype(np.float32) - 127) @ _PROJECTION)

    def embed_texts(self, texts: list[str], *, truncate: bool = False) -> np.ndarray:
        if bad := [text for text in texts if "unspeakable" in text]:
            raise ValueError(f"{bad[0]!r} cannot be said")
        self.embedded += len(texts)
        seeds = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") for text in texts]
        return self._sign * _unit(np.stack([np.random.default_rng(seed).normal(size=DIM) for seed in seeds]))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class InlineReaders:
    """`diptych.media.reading.readers.ReaderPool` in this process: the same reading, without half a second to start."""

    def __init__(
        self, root: Path, spec: Preprocess, *, processes: int | None = None, timeout_s: float = 30.0,
        follow_links: bool = False,
    ):  # fmt: skip
        self._root, self._spec, self._follow_links = str(root), spec, follow_links

    def __enter__(self) -> "InlineReaders":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, files: Iterable[File]) -> Iterator[FileContents]:
        for file in files:
            try:
                *read, partial, kind = read_file(
                    self._root, file.path, file.kind, self._spec, follow_links=self._follow_links
                )
                yield FileContents(file._replace(kind=kind), *read, partial=partial)
            except UnreadableFileError as error:
                failure = Failure(error.reason, f"{file.path}: {error.reason}. {error.detail}")
                yield FileContents(file, error.digest, failure=failure)


def draw(path: Path, seed: int) -> Path:
    """A picture of noise, another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, compress_level=0)  # so that sizes are alike, and tell nothing
    return path


def expected(path: Path, model: PixelModel) -> np.ndarray:
    """The vector of one picture, made directly."""
    read = read_file(str(path.parent), path.name, "picture", SPEC)
    assert read.parts[0].pixels is not None
    return model.embed_pixels(read.parts[0].pixels[None])[0]
