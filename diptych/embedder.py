"""The object that users hold: pictures and sentences in, unit vectors out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from diptych.checkpoint.finding import BUNDLED as BUNDLED
from diptych.checkpoint.fingerprint import as_read_before, fingerprint
from diptych.checkpoint.state import Checkpoint, CheckpointError, preprocessing_of
from diptych.checkpoint.weights.finite import checked_bias, multiplied_out
from diptych.engines import Engine, EngineName, choose_engine, device_name  # first, for it must come before torch
from diptych.engines.converted import Numbers
from diptych.errors import ArgumentError
from diptych.failures import Embedded, Failure, TextError, bad_texts, listed, no_text, several
from diptych.media.images import Decode, ImageError, load_pixels, preprocess, squared
from diptych.media.images import Source as ImageSource
from diptych.scoring import zero_shot
from diptych.text.tokenizer import Tokenizer, TokenizerError, Tokens, check_ids, missing

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, UInt8
    from PIL.Image import Image

    from diptych.engines.openvino import Precision
    from diptych.nets.clip import CLIP
    from diptych.scoring.heat_map import HeatMap, Method

BATCH = 32
Encode = Callable[[np.ndarray], np.ndarray]
Labels = zero_shot.Labels
Images: TypeAlias = "ImageSource | Iterable[ImageSource]"  # one picture, or many
Device: TypeAlias = "str | torch.device"


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    device: Device | None = None,
    engine: EngineName | None = None,
    precision: Precision = "auto",
    activation: str | None = None,
    revision: str | None = None,
) -> Embedder:
    """Open a model: the bundled one (None or "bundled"), a model folder or one that holds a model, a checkpoint file,
    or a hub id such as "openai/clip-vit-base-patch32". What was decided for lack of a word in its files is in `notes`.

    `device` is "cuda", "mps", "cpu", a torch.device, or "gpu" for whichever GPU there is; by default, or by "auto", it
    is the first of these that is here. `engine` is "pytorch", which GPUs need, or "openvino", the default on
    processors: it starts at once, needs no PyTorch for folders with safetensors, and computes in bfloat16 where the
    processor can, unless `precision="float32"`. `activation` ("gelu" or "quick_gelu") must be said for a bare state
    dict that does not tell, and may not contradict one that does.
    `revision` is a branch, tag or commit of a hub id. Raises CheckpointError or HubError, each naming what came, what
    was wanted and what to do, and ValueError for a device or engine that is not here.
    """
    from diptych.engines.opening import opened

    options = {"precision": precision, "activation": activation, "revision": revision}
    engine = choose_engine(engine, device := device_name(device))
    model = Embedder(*opened(source, engine=engine, device=device, **options))  # type: ignore[arg-type]
    model._opened = {"source": source, "engine": engine, "device": device, **options}
    return model


class Embedder:
    """A model and the engine that runs it. Made by `load`.

    All vectors are float32 and of unit length, so a dot product is a cosine. `notes` say what was decided for lack of a
    word in the model's files; `passed_over` names keys in these that were not read, as no vector depends on them.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine):
        self.engine = engine
        self.config = checkpoint.config
        self.source, self.reading = checkpoint.source, checkpoint.reading
        self.notes, self.passed_over = checkpoint.notes, checkpoint.passed_over
        self.preprocessing = preprocessing_of(checkpoint)
        self._checkpoint = checkpoint
        self.tokenizer = _tokenizer(checkpoint)
        self._opened: dict[str, Any] | None = None  # what `load` was asked for

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or a pickle, is opened again from where the weights lie; where PyTorch runs them it holds them, for
        they may have been trained on."""
        if network := getattr(self.engine, "network", None):
            state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
            return _revived, (self._checkpoint._replace(state=state), str(getattr(self.engine, "device", "cpu")))
        if self._opened is None:
            raise TypeError(f"{self!r} was not opened by diptych.load, and cannot be copied; save it and load that.")
        return _reopened, (self._opened, self.fingerprint)

    def __repr__(self) -> str:
        size = f"{self.dim} dimensions, {self.preprocessing.size_px} px"
        return f"<diptych.Embedder {self.source}: {size}, {self.engine.describe()}>"

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.config.embed_dim

    @cached_property
    def network(self) -> CLIP:
        """The torch module, for training or for looking inside; read when it is asked for, where another engine runs.
        Raises CheckpointError where PyTorch is not installed, or the model has been converted for another engine."""
        if own := getattr(self.engine, "network", None):
            return own
        choose_engine("pytorch", None)  # says what to install where it is not there
        from diptych.checkpoint import build
        from diptych.checkpoint.conversion import with_tensors

        return build(with_tensors(self._checkpoint))

    @property
    def scale(self) -> float:
        """The learned inverse temperature, multiplied out. CheckpointError where it has run away."""
        return multiplied_out(self._number("logit_scale"), self.source)

    @property
    def bias(self) -> float | None:
        """The learned logit bias of a sigmoid model; None for a softmax one. CheckpointError where it is no number."""
        return checked_bias(self._number("logit_bias"), self.source) if "logit_bias" in self._state else None

    @property
    def _state(self) -> Mapping[str, Any]:
        """The weights that run: those of the network where there is one, which may have been trained on."""
        network = vars(self).get("network") or getattr(self.engine, "network", None)
        return self._checkpoint.state if network is None else network.state_dict()

    def _number(self, name: str) -> float:
        return float(self._state[name].reshape(()))

    @cached_property
    def fingerprint(self) -> str:
        """Whose vectors these are: the same for the same model in any format, on any engine, at any precision."""
        state = self._state
        if isinstance(state, Numbers):
            return str(state.facts["fingerprint"])
        first_row = getattr(state, "first_row", lambda name: _array(state[name][:1]))
        config = as_read_before(self.config, self.reading)
        return fingerprint(config, self.preprocessing, self._checkpoint.tokenizer_json, first_row)

    @property
    def tokenizer_json(self) -> str | None:
        """The text of the model's tokenizer.json; None where it came without."""
        return self._checkpoint.tokenizer_json

    def tokenize(self, texts: str | Sequence[str], *, truncate: bool = False) -> Tokens:
        """Ids and mask, padded to the longest text (to the context where the tower needs that).

        Raises TokenizerError on a text longer than the context unless `truncate`, which cuts and counts it, and
        TextError on what is no text.
        """
        texts = listed(texts, "texts")
        if bad := next(filter(None, map(no_text, texts, range(len(texts)))), None):
            raise TextError(bad.message)
        tokens = self._reader()(texts, truncate=truncate)
        check_ids(tokens.ids, self.config.text, self.source)
        return tokens

    def _reader(self) -> Tokenizer:
        if self.tokenizer is None:
            raise missing(self.config.text, self.source)
        return self.tokenizer

    def preprocess(self, image: ImageSource, *, decode: Decode = "exact") -> Float[np.ndarray, "3 height width"]:
        """One picture as the image tower reads it: float32, normalised. Raises ImageError."""
        return preprocess(image, self.preprocessing, decode=decode)

    def shown(self, image: ImageSource) -> Image:
        """The picture as the tower sees it, before normalising: resized and cropped, 8-bit RGB."""
        from PIL import Image

        return Image.fromarray(squared(image, self.preprocessing))

    def embed_texts(self, texts: str | Sequence[str], *, truncate: bool = False) -> Float[np.ndarray, "texts dim"]:
        """One unit vector a text, (1, dim) for a text that comes alone.

        Raises TextError on an empty text, TokenizerError on one that is too long (unless `truncate`), each naming it,
        before any is embedded; `embed_readable_texts` leaves such texts out instead.
        """
        texts = listed(texts, "texts")
        if failures := bad_texts(texts):
            raise TextError(next(iter(failures.values())).message)
        tokens = self.tokenize(texts, truncate=truncate)
        vectors = np.empty((len(texts), self.dim), np.float32)
        lengths = tokens.mask.sum(axis=1)
        order = lengths.argsort(kind="stable")  # a batch costs what its longest text does
        for part in (order[at : at + BATCH] for at in range(0, len(texts), BATCH)):
            width = tokens.ids.shape[1] if self._reader().fill_context else lengths[part[-1]]
            vectors[part] = self.engine.encode_texts(tokens.ids[part, :width])
        return vectors

    def embed_readable_texts(self, texts: str | Sequence[str], *, truncate: bool = False) -> Embedded:
        """`embed_texts` where bad texts cost themselves alone. The keys are places in `texts`."""
        texts = listed(texts, "texts")
        failures = bad_texts(texts)
        if not truncate:
            sound = ["" if at in failures else text for at, text in enumerate(texts)]
            failures |= {at: Failure.of("too long", words) for at, words in self._reader().too_long(sound).items()}
        keys = [at for at in range(len(texts)) if at not in failures]
        return Embedded(keys, self.embed_texts([texts[at] for at in keys], truncate=truncate), failures)

    def _no_vectors(self) -> np.ndarray:
        return np.empty((0, self.dim), np.float32)

    def embed_images(self, images: Images, *, decode: Decode = "exact") -> Float[np.ndarray, "pictures dim"]:
        """One unit vector a picture, of one alone or of many: paths, URLs, PIL pictures, a file's bytes, arrays and
        tensors as `images.open_image` takes them. "exact" is the reference's way, to the bit; "fast" how pictures are
        searched, classified and compared: see `images`.

        Raises ImageError, naming the picture, on the first that cannot be read; `embed_stream` goes on instead.
        """
        return self._rows(images, decode, self.engine.encode_images, self.dim)

    def _rows(self, images: Images, decode: Decode, encode: Encode, width: int) -> np.ndarray:
        rows = []
        for _, result in self._image_results(several(images, "images"), decode, encode):
            if isinstance(result, ImageError):
                raise result
            rows.append(result)
        return np.stack(rows) if rows else np.empty((0, width), np.float32)

    def embed_stream(
        self, items: Iterable[Any], *, decode: Decode = "fast", encode: Encode | None = None
    ) -> Iterator[tuple[Any, np.ndarray | Failure]]:
        """Pictures one after another: yields (key, vector) in order, or (key, Failure) where a picture is bad.

        An item is a (key, picture) pair, or a path or URL that is its own key. Memory does not grow with the number
        of items, decoding runs ahead in threads, and JPEGs are decoded at a reduced size where that is enough. `encode`
        makes something else of each batch of pixels than their vectors, a row a picture.
        """
        items, keys = several(items, "items"), dict[int, Any]()

        def sources() -> Iterator[ImageSource]:
            for index, item in enumerate(items):
                keys[index], source = item if isinstance(item, tuple) else (item, item)
                yield source

        for index, result in self._image_results(sources(), decode, encode or self.engine.encode_images):
            failed = isinstance(result, ImageError)
            yield keys.pop(index), Failure(result.reason, str(result)) if failed else result

    def embed_readable(
        self,
        items: Sequence[Any],
        *,
        decode: Decode = "fast",
        encode: Encode | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Embedded:
        """`embed_stream`, gathered: bad pictures cost themselves alone. `progress` is told (done, total)."""
        keys, vectors, failures = [], [], {}
        for done, (key, result) in enumerate(self.embed_stream(items, decode=decode, encode=encode), start=1):
            if isinstance(result, Failure):
                failures[key] = result
            else:
                keys.append(key)
                vectors.append(result)
            if progress:
                progress(done, len(items))
        return Embedded(keys, np.stack(vectors) if vectors else self._no_vectors(), failures)

    def embed_pixels(self, pixels: UInt8[np.ndarray, "pictures size size 3"]) -> Float[np.ndarray, "pictures dim"]:
        """One unit vector a picture that has the tower's size already, 8-bit RGB as `images.squared` makes it."""
        size = self.preprocessing.size_px
        pixels = np.asarray(pixels)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            raise ArgumentError(f"pixels {pixels.shape} of {pixels.dtype}; wanted uint8 (n, {size}, {size}, 3).")
        starts = range(0, len(pixels), BATCH)
        batches = [self.engine.encode_images(pixels[i : i + BATCH]) for i in starts]
        return np.concatenate(batches) if batches else self._no_vectors()

    def _image_results(
        self, sources: Iterable[ImageSource], decode: Decode, encode: Encode
    ) -> Iterator[tuple[int, np.ndarray | ImageError]]:
        """What `encode` makes of batches, each picture's error in its place."""
        loaded = load_pixels(sources, self.preprocessing, decode=decode)
        while batch := list(islice(loaded, BATCH)):
            good = [pixels for _, pixels in batch if not isinstance(pixels, ImageError)]
            rows = iter(encode(np.stack(good)) if good else ())
            for index, pixels in batch:
                yield index, pixels if isinstance(pixels, ImageError) else next(rows)

    def similarity(
        self, images: Images, texts: str | Sequence[str] | np.ndarray, *, truncate: bool = False
    ) -> Float[np.ndarray, "pictures texts"]:
        """Cosines between pictures and texts; either may also come as vectors of any length, see
        `zero_shot.as_vectors`."""
        rows = self._text_vectors(texts, truncate)  # first: it is quick, and may fail
        return zero_shot.cosines(self._image_vectors(images), rows)

    def classify(
        self,
        images: Images,
        labels: Labels,
        *,
        templates: Sequence[str] = zero_shot.PLAIN_TEMPLATES,
        truncate: bool = False,
        places: bool = False,
    ) -> zero_shot.Classification:
        """Which label fits each picture, by the model's own temperature; `{}` in a template is the label's place.
        `labels` are names, or {name: what else it is called}, {"cat": ["a cat", "a kitty"]}.

        With `places` it is some part of the picture that has to fit, see `zero_shot.anywhere`: for pictures of several
        things. Else they may also come as vectors. Raises as `embed_images` and `embed_labels` do.
        """
        classes = self.embed_labels(labels, templates=templates, truncate=truncate)
        at = partial(self.anywhere, classes=classes)
        cosines = self._rows(images, "fast", at, len(classes)) if places else self._image_vectors(images) @ classes.T
        return zero_shot.classify(cosines, tuple(zero_shot.synonyms(labels)), scale=self.scale, bias=self.bias)

    def anywhere(
        self, pixels: UInt8[np.ndarray, "pictures size size 3"], classes: Float[np.ndarray, "labels dim"]
    ) -> Float[np.ndarray, "pictures labels"]:
        """How well some part of each picture fits each label's vector, see `zero_shot.anywhere`."""
        return zero_shot.anywhere(self.engine.encode_patches(pixels), classes)

    def embed_labels(
        self,
        labels: Labels,
        *,
        templates: str | Sequence[str] = zero_shot.PLAIN_TEMPLATES,
        truncate: bool = False,
    ) -> Float[np.ndarray, "labels dim"]:
        """One unit vector a label, of names or of {name: what it is called}: the mean over the templates and over what
        it is called. Raises ValueError on no labels or a template without `{}`, and what `embed_texts` raises."""
        called, templates = zero_shot.synonyms(labels), tuple(listed(templates, "templates"))
        names = [name for names in called.values() for name in names]
        if failures := bad_texts(names):
            raise TextError(next(iter(failures.values())).message.replace("text", "label", 1))
        vectors = self.embed_texts(zero_shot.prompts(tuple(names), templates), truncate=truncate)
        return zero_shot.class_vectors(vectors, [len(names) * len(templates) for names in called.values()])

    def locate(
        self, image: ImageSource, phrase: str, *, method: Method = "places", scales: Sequence[float] | None = None,
        overlap: float | None = None, threshold: float | None = None, truncate: bool = False,
    ) -> HeatMap:  # fmt: skip
        """Where in a picture what a phrase says is: a map of scores over the whole picture, and boxes. For several
        phrases at once, and for what the options mean, see `diptych.scoring.heat_map.heat_maps`."""
        from diptych.scoring.heat_map import heat_maps

        options = {"scales": scales, "overlap": overlap, "threshold": threshold, "truncate": truncate}
        return heat_maps(self, image, [phrase], method=method, **options)[0]  # type: ignore[arg-type]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model folder: config.json, model.safetensors, tokenizer.json, preprocessor_config.json."""
        network = self.network
        from diptych.checkpoint import save_folder

        spec = self.preprocessing.to_hugging_face()
        return save_folder(folder, network, tokenizer_json=self.tokenizer_json, reading=self.reading, preprocess=spec)

    def _image_vectors(self, images: Images) -> np.ndarray:
        vectors = zero_shot.as_vectors(images, self.dim)
        return self.embed_images(images, decode="fast") if vectors is None else vectors

    def _text_vectors(self, texts: Sequence[str] | np.ndarray, truncate: bool) -> np.ndarray:
        vectors = zero_shot.as_vectors(texts, self.dim)
        return self.embed_texts(texts, truncate=truncate) if vectors is None else vectors  # type: ignore[arg-type]


def _reopened(opened: dict[str, Any], mark: str) -> Embedder:
    options = dict(opened)
    model = load(options.pop("source"), **options)
    if model.fingerprint != mark:
        raise CheckpointError(f"{model.source} is another model than when it was copied; put the former one back.")
    return model


def _revived(checkpoint: Checkpoint, device: str) -> Embedder:
    from diptych.engines.opening import run_by_pytorch

    return Embedder(checkpoint, run_by_pytorch(checkpoint, device))


def _array(values: Any) -> np.ndarray:
    """A tensor of whatever device as an array; an array as it is."""
    return values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer | None:
    if not checkpoint.tokenizer_json:
        return None
    try:
        is_ours = checkpoint.source == str(BUNDLED)
        return Tokenizer.of_tower(
            checkpoint.tokenizer_json, checkpoint.config.text, checkpoint.reading, is_ours=is_ours
        )
    except TokenizerError as error:
        raise TokenizerError(f"{checkpoint.source}: {error}") from error
