"""The object that users hold: pictures and sentences in, unit vectors out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from diptych import zero_shot
from diptych.images import Decode, ImageError, Preprocess, load_pixels, preprocess, resize_and_crop
from diptych.images import Source as ImageSource
from diptych.tokenizer import Tokenizer, TokenizerError, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.checkpoint import Checkpoint
    from diptych.engines.pytorch import PyTorchEngine
    from diptych.nets.clip import CLIP

BUNDLED = Path(__file__).parent / "bundled"
BATCH = 32


class TextError(ValueError):
    """A text that cannot be embedded: empty, too long, or no text."""


class Failure(NamedTuple):
    """What stands in a stream in place of a vector: a short countable `reason`, and the whole message."""

    reason: str
    message: str


class Embedded(NamedTuple):
    """The pictures that could be read with their vectors, in order, and those that could not."""

    keys: list[Any]
    vectors: Float[np.ndarray, "pictures dim"]
    failures: dict[Any, Failure]


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    activation: str | None = None,
    revision: str | None = None,
) -> Embedder:
    """Open a model: the bundled one, a model folder or checkpoint file, or a hub id such as
    "openai/clip-vit-base-patch32".

    `device` is "cuda", "mps" or "cpu", by default the first of these that is there. `activation` ("gelu" or
    "quick_gelu") must be said for a bare state dict that does not tell, and may not contradict one that does.
    `revision` is a branch, tag or commit of a hub id. Raises CheckpointError or HubError, each naming what came, what
    was wanted and what to do.
    """
    from diptych.checkpoint import build, read
    from diptych.engines.pytorch import PyTorchEngine, choose_device

    chosen = choose_device(device)  # before the weights are read: a wrong name should fail at once
    checkpoint = read(BUNDLED if source is None else source, activation=activation, revision=revision)
    return Embedder(checkpoint, PyTorchEngine(build(checkpoint), chosen))


class Embedder:
    """A model and the engine that runs it. Made by `load`.

    All vectors are float32 and of unit length, so a dot product is a cosine.
    """

    def __init__(self, checkpoint: Checkpoint, engine: PyTorchEngine):
        self.engine = engine
        self.config = checkpoint.config
        self.source = checkpoint.source
        image, text = self.config.image, self.config.text
        self.preprocessing = (
            Preprocess.from_hugging_face(checkpoint.preprocess)
            if checkpoint.preprocess
            else Preprocess(size_px=image.image_size)
        )
        if self.preprocessing.size_px != image.image_size:
            raise ValueError(
                f"{self.source}: preprocessor_config.json makes pictures of {self.preprocessing.size_px} px, the image "
                f"tower reads {image.image_size} px. Take both files from the same model."
            )
        self._tokenizer_json = checkpoint.tokenizer_json
        json = checkpoint.tokenizer_json
        self.tokenizer = Tokenizer.of_tower(json, text) if json else None

    def __repr__(self) -> str:
        return f"<diptych.Embedder {self.source}: {self.dim} dimensions, {self.preprocessing.size_px} px, {self.engine.describe()}>"

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.config.embed_dim

    @property
    def network(self) -> CLIP:
        """The torch module, for training or for looking inside."""
        return self.engine.network

    @property
    def scale(self) -> float:
        """The learned inverse temperature, multiplied out."""
        return float(self.network.logit_scale.detach().exp())

    @property
    def bias(self) -> float | None:
        """The learned logit bias of a sigmoid model; None for a softmax one."""
        bias = self.network.logit_bias
        return None if bias is None else float(bias.detach())

    def tokenize(self, texts: Sequence[str], *, truncate: bool = False) -> Tokens:
        """Ids and mask, padded to the longest text (to the context where the tower needs that).

        Raises TokenizerError on a text longer than the context unless `truncate`, which cuts and counts it.
        """
        if self.tokenizer is None:
            raise TokenizerError(
                f"{self.source} came without its tokenizer.json, so it cannot read text (pictures it can). "
                "Put the tokenizer.json of the model's own folder beside its weights."
            )
        return self.tokenizer(texts, truncate=truncate)

    def preprocess(self, image: ImageSource, *, decode: Decode = "exact") -> Float[np.ndarray, "3 height width"]:
        """One picture as the image tower reads it: float32, normalised. Raises ImageError."""
        return preprocess(image, self.preprocessing, decode=decode)

    def shown(self, image: ImageSource) -> Image:
        """The picture as the tower sees it, before normalising: resized and cropped, 8-bit RGB."""
        from diptych.images import open_image

        return resize_and_crop(open_image(image), self.preprocessing)

    def embed_texts(self, texts: Sequence[str], *, truncate: bool = False) -> Float[np.ndarray, "texts dim"]:
        """One unit vector a text.

        Raises TextError on an empty text, TokenizerError on one that is too long (unless `truncate`); each names it.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts came as one string; pass a list: [{texts[:40]!r}].")
        for index, text in enumerate(texts):
            _check_text(text, index)
        starts = range(0, len(texts), BATCH)
        batches = [self.engine.encode_texts(self.tokenize(texts[i : i + BATCH], truncate=truncate).ids) for i in starts]
        return np.concatenate(batches) if batches else np.empty((0, self.dim), np.float32)

    def embed_images(
        self, images: Iterable[ImageSource], *, decode: Decode = "exact"
    ) -> Float[np.ndarray, "pictures dim"]:
        """One unit vector a picture: paths, PIL pictures, a file's bytes, (h, w, 3) uint8 arrays, or URLs.

        Raises ImageError, naming the picture, on the first that cannot be read; `embed_stream` goes on instead.
        """
        if isinstance(images, (str, os.PathLike, bytes)):
            raise TypeError(f"images came as one {type(images).__name__}; pass a list: [{str(images)[:40]!r}].")
        vectors = []
        for _, result in self._image_results(images, decode):
            if isinstance(result, ImageError):
                raise result
            vectors.append(result)
        return np.stack(vectors) if vectors else np.empty((0, self.dim), np.float32)

    def embed_stream(
        self, items: Iterable[Any], *, decode: Decode = "fast"
    ) -> Iterator[tuple[Any, np.ndarray | Failure]]:
        """Pictures one after another: yields (key, vector) in order, or (key, Failure) where a picture is bad.

        An item is a (key, picture) pair, or a path or URL that is its own key. Memory does not grow with the number
        of items, decoding runs ahead in threads, and JPEGs are decoded at a reduced size where that is enough.
        """
        keys: dict[int, Any] = {}

        def sources() -> Iterator[ImageSource]:
            for index, item in enumerate(items):
                keys[index], source = item if isinstance(item, tuple) else (item, item)
                yield source

        for index, result in self._image_results(sources(), decode):
            failed = isinstance(result, ImageError)
            yield keys.pop(index), Failure(result.reason, str(result)) if failed else result

    def embed_readable(
        self, items: Sequence[Any], *, decode: Decode = "fast", progress: Callable[[int, int], None] | None = None
    ) -> Embedded:
        """`embed_stream`, gathered: bad pictures cost themselves alone. `progress` is told (done, total)."""
        keys, vectors, failures = [], [], {}
        for done, (key, result) in enumerate(self.embed_stream(items, decode=decode), start=1):
            if isinstance(result, Failure):
                failures[key] = result
            else:
                keys.append(key)
                vectors.append(result)
            if progress:
                progress(done, len(items))
        return Embedded(keys, np.stack(vectors) if vectors else np.empty((0, self.dim), np.float32), failures)

    def _image_results(
        self, sources: Iterable[ImageSource], decode: Decode
    ) -> Iterator[tuple[int, np.ndarray | ImageError]]:
        """Vectors in batches, each picture's error in its place."""
        loaded = load_pixels(sources, self.preprocessing, decode=decode)
        while batch := list(islice(loaded, BATCH)):
            good = [pixels for _, pixels in batch if not isinstance(pixels, ImageError)]
            vectors = iter(self.engine.encode_images(np.stack(good)) if good else ())
            for index, pixels in batch:
                yield index, pixels if isinstance(pixels, ImageError) else next(vectors)

    def similarity(
        self, images: Iterable[ImageSource] | np.ndarray, texts: Sequence[str] | np.ndarray
    ) -> Float[np.ndarray, "pictures texts"]:
        """Cosines between pictures and texts; either may also come as vectors, (n, dim) float."""
        return self._image_vectors(images) @ self._text_vectors(texts).T

    def classify(
        self,
        images: Iterable[ImageSource] | np.ndarray,
        labels: Sequence[str],
        *,
        templates: Sequence[str] = zero_shot.PLAIN_TEMPLATES,
    ) -> zero_shot.Classification:
        """Which label fits each picture, by the model's own temperature; `{}` in a template is the label's place."""
        if not labels or isinstance(labels, str):
            raise ValueError(f"labels is {labels!r}; pass a list of one or more class names.")
        texts = zero_shot.prompts(tuple(labels), tuple(templates))
        classes = zero_shot.class_vectors(self.embed_texts(texts), len(templates))
        return zero_shot.classify(
            self._image_vectors(images), classes, tuple(labels), scale=self.scale, bias=self.bias
        )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model folder: config.json, model.safetensors, tokenizer.json, preprocessor_config.json."""
        from diptych.checkpoint import save_folder

        return save_folder(
            folder, self.network, tokenizer_json=self._tokenizer_json, preprocess=self.preprocessing.to_hugging_face()
        )

    def _image_vectors(self, images: Iterable[ImageSource] | np.ndarray) -> np.ndarray:
        return images if self._is_vectors(images) else self.embed_images(images)  # type: ignore[return-value]

    def _text_vectors(self, texts: Sequence[str] | np.ndarray) -> np.ndarray:
        return texts if self._is_vectors(texts) else self.embed_texts(texts)  # type: ignore[return-value]

    def _is_vectors(self, items: Any) -> bool:
        return isinstance(items, np.ndarray) and items.ndim == 2 and items.shape[1] == self.dim and items.dtype != np.uint8


def _check_text(text: object, index: int) -> None:
    if not isinstance(text, str):
        raise TextError(f"text {index} is a {type(text).__name__}; wanted a string.")
    if not text.strip():
        raise TextError(f"text {index} is empty; wanted at least a word.")
