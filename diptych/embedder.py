"""The model as users hold it: pictures and texts in, unit vectors out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from diptych.checkpoint.finding import BUNDLED as BUNDLED
from diptych.checkpoint.finding import known_words_of, reference_pictures_of, tokenizer_of
from diptych.checkpoint.state import Checkpoint, preprocessing_of
from diptych.checkpoint.weights.finite import checked_bias, checked_scale
from diptych.deprecation import renamed_arguments, renamed_attributes
from diptych.engines import Engine, EngineName, choose_engine, device_name  # before torch is imported
from diptych.engines.converted import fingerprint_of
from diptych.errors import ArgumentError, CheckpointError, TextError
from diptych.failures import EmbeddingResult, Failure, invalid_texts, listed, no_text, several
from diptych.inference import batching
from diptych.inference.batching import Encode, Key, Progress
from diptych.inference.labels import LabelSet, label_vectors
from diptych.media.images import Decode, Source
from diptych.media.preprocessing import preprocess, resized_and_cropped
from diptych.scoring import zero_shot
from diptych.scoring.reference_pictures import ReferencePictures
from diptych.scoring.zero_shot import PLAIN_TEMPLATES, Calibration, Classification, Labels, Templates, label_names
from diptych.text.known_words import KnownWords
from diptych.text.tokenizer import Tokenizer, Tokens, check_ids, missing

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int, UInt8
    from PIL.Image import Image

    from diptych.engines.openvino import Precision
    from diptych.inference.heat_map import HeatMap, Method
    from diptych.inference.picture_files import ClassifiedFiles, ComparedFiles
    from diptych.nets.clip import CLIP
    from diptych.scoring.difference import Difference

Images: TypeAlias = "Source | Iterable[Source]"  # one picture, or many
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
    """Open a model: the bundled one (None or "bundled"), a model folder or one that contains a model, a checkpoint
    file, a pretrained model's short name ("clip-vit-b-32", see `pretrained_models`), or a hub id ("owner/name@v1").

    `device` is "cuda", "mps", "cpu", a torch.device, or "gpu" for any GPU; by default, or with "auto", the first of
    these that is available. `engine` is "pytorch", which GPUs need, or "openvino", the default on CPUs: it starts at
    once, needs no PyTorch for folders with safetensors, and computes in bfloat16 if the CPU supports it, unless
    `precision="float32"`. `activation` ("gelu" or "quick_gelu") is required for a state dict that does not record it,
    and may not contradict one that does. `revision` is a branch, tag or commit of a hub id. Raises CheckpointError or
    HubError, and ArgumentError for a device or engine that is not available.
    """
    from diptych.engines.opening import open_engine

    options = {"precision": precision, "activation": activation, "revision": revision}
    engine = choose_engine(engine, device := device_name(device))
    model = Embedder(*open_engine(source, engine=engine, device=device, **options))  # type: ignore[arg-type]
    model._opened = {"source": source, "engine": engine, "device": device, **options}
    return model


@renamed_attributes(
    passed_over="ignored_keys", reading="text_preprocessing", shown="model_input", anywhere="patch_scores",
    embed_readable="try_embed_images", embed_readable_texts="try_embed_texts",
)  # fmt: skip
class Embedder:
    """A model and the engine that runs it, from `load`.

    All vectors are float32 and of unit length, so a dot product is a cosine. `notes` describes the decisions that the
    model's files left open; `ignored_keys` lists their keys that change no vector; `search_files` are files of theirs.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine):
        self.engine = engine
        self.config = checkpoint.config
        self.source, self.text_preprocessing = checkpoint.source, checkpoint.text_preprocessing
        self.notes, self.ignored_keys = checkpoint.notes, checkpoint.ignored_keys
        self.preprocessing = preprocessing_of(checkpoint)
        self.search_files, self._checkpoint = checkpoint.search_files, checkpoint
        self.tokenizer = tokenizer_of(checkpoint)
        self._opened: dict[str, Any] | None = None  # the arguments of `load`

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or pickle opens the model's files again. With PyTorch it contains the weights, which may have been
        trained."""
        if network := getattr(self.engine, "network", None):
            state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
            return _revived, (self._checkpoint._replace(state=state), str(getattr(self.engine, "device", "cpu")))
        if self._opened is None:
            raise TypeError(f"{self!r} was not opened by diptych.load and cannot be copied; save it and load that.")
        return _reopened, (self._opened, self.fingerprint)

    def __repr__(self) -> str:
        size = f"{self.dim} dimensions, {self.preprocessing.size_px} px"
        return f"<diptych.Embedder {self.source}: {size}, {self.engine.describe()}>"

    @property
    def dim(self) -> int:
        """The number of dimensions of a vector."""
        return self.config.embed_dim

    @cached_property
    def network(self) -> CLIP:
        """The torch module, for training or inspection; with another engine its weights are read on first use. Raises
        CheckpointError if PyTorch is not installed or the model has been converted for another engine."""
        if own := getattr(self.engine, "network", None):
            return own
        choose_engine("pytorch", None)  # raises if PyTorch is not installed
        from diptych.checkpoint import build
        from diptych.checkpoint.conversion import with_tensors

        return build(with_tensors(self._checkpoint))

    @property
    def scale(self) -> float:
        """The learned inverse temperature, exp(logit_scale). Raises CheckpointError if it has diverged."""
        return checked_scale(self._number("logit_scale"), self.source)

    @property
    def bias(self) -> float | None:
        """The learned logit bias of a sigmoid model; None for a softmax one. Raises CheckpointError if it is NaN."""
        return checked_bias(self._number("logit_bias"), self.source) if "logit_bias" in self._state else None

    @property
    def _state(self) -> Mapping[str, Any]:
        """The current weights: those of the network if there is one, which may have been trained."""
        network = vars(self).get("network") or getattr(self.engine, "network", None)
        return self._checkpoint.state if network is None else network.state_dict()

    def _number(self, name: str) -> float:
        return float(self._state[name].reshape(()))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the model: the same in any format, on any engine, at any precision."""
        return fingerprint_of(self._checkpoint, self._state, self.preprocessing)

    @property
    def tokenizer_json(self) -> str | None:
        """The text of the model's tokenizer.json; None if it has none."""
        return self._checkpoint.tokenizer_json

    @cached_property
    def known_words(self) -> KnownWords | None:
        """The words that its training saw; None if the model's files do not say."""
        return known_words_of(self._checkpoint)

    @cached_property
    def reference_pictures(self) -> ReferencePictures | None:
        """Pictures that say how near a text comes; None if the model's files lack them. Raises CheckpointError."""
        return reference_pictures_of(self._checkpoint)

    def tokenize(self, texts: str | Sequence[str], *, truncate: bool = False, fill_context: bool = False) -> Tokens:
        """Ids and mask, padded to the longest text (to the context with `fill_context`, or if the tower needs that).

        Raises TokenizerError for a text longer than the context, unless `truncate`, which cuts and counts it, and
        TextError for anything that is not a text."""
        texts = listed(texts, "texts")
        if bad := next(filter(None, map(no_text, texts, range(len(texts)))), None):
            raise TextError(bad.message)
        tokens = self._reader()(texts, truncate=truncate, fill_context=fill_context)
        check_ids(tokens.ids, self.config.text, self.source)
        return tokens

    def _reader(self) -> Tokenizer:
        if self.tokenizer is None:
            raise missing(self.config.text, self.source)
        return self.tokenizer

    def preprocess(self, image: Source, *, decode: Decode = "exact") -> Float[np.ndarray, "3 height width"]:
        """One picture as input of the image tower: float32, normalised. Raises ImageError."""
        return preprocess(image, self.preprocessing, decode=decode)

    def model_input(self, image: Source) -> Image:
        """The picture as the tower sees it, before normalisation: resized and cropped, 8-bit RGB. Raises ImageError."""
        from PIL import Image

        return Image.fromarray(resized_and_cropped(image, self.preprocessing))

    def embed_texts(self, texts: str | Sequence[str], *, truncate: bool = False) -> Float[np.ndarray, "texts dim"]:
        """One unit vector for each text; (1, dim) for a single text.

        Raises TextError for an empty text and TokenizerError for one that is too long (unless `truncate`), before any
        is embedded; `try_embed_texts` leaves such texts out instead."""
        texts = listed(texts, "texts")
        if failures := invalid_texts(texts):
            raise TextError(next(iter(failures.values())).message)
        tokens = self.tokenize(texts, truncate=truncate)
        return batching.encoded_texts(tokens, self.engine.encode_texts, self.dim, self._reader())

    def embed_tokens(self, ids: Sequence[Int[np.ndarray, "tokens"]]) -> Float[np.ndarray, "texts dim"]:
        """One unit vector for each text, given as its ids without padding. Raises TokenizerError for ids of others."""
        tokens = self._reader().padded(ids)
        check_ids(tokens.ids, self.config.text, self.source)
        return batching.encoded_texts(tokens, self.engine.encode_texts, self.dim, self._reader())

    def try_embed_texts(self, texts: str | Sequence[str], *, truncate: bool = False) -> EmbeddingResult[int]:
        """`embed_texts` with invalid texts in `failures`. The keys are indices in `texts`."""
        texts = listed(texts, "texts")
        failures = invalid_texts(texts)
        if not truncate:
            valid = ["" if index in failures else text for index, text in enumerate(texts)]
            too_long = self._reader().too_long(valid).items()
            failures |= {index: Failure.of("too long", message) for index, message in too_long}
        keys = [index for index in range(len(texts)) if index not in failures]
        return EmbeddingResult(keys, self.embed_texts([texts[key] for key in keys], truncate=truncate), failures)

    def embed_images(self, images: Images, *, decode: Decode = "exact") -> Float[np.ndarray, "pictures dim"]:
        """One unit vector for each picture, of one or of many: paths, URLs, PIL pictures, bytes, arrays and tensors,
        see `images.open_image`. "exact" decodes as the reference does, to the bit; "fast" as search, classification and
        comparison do, see `images`.

        Raises ImageError for the first picture that cannot be read; `embed_stream` continues instead."""
        return self._rows(images, decode, self.engine.encode_images, self.dim)

    def _rows(self, images: Images, decode: Decode, encode: Encode, width: int) -> np.ndarray:
        rows = batching.encoded_images(several(images, "images"), self.preprocessing, decode, encode)
        return batching.stacked(rows, width)

    def embed_stream(
        self, items: Iterable[Key | tuple[Key, Source]], *, decode: Decode = "fast", encode: Encode | None = None
    ) -> Iterator[tuple[Key, np.ndarray | Failure]]:
        """Yields (key, vector) for each picture in order, or (key, Failure) for one that cannot be read.

        An item is a (key, picture) pair, or a path or URL that is its own key. Memory does not grow with the number of
        items, threads decode ahead, and JPEGs are decoded at a reduced size if that is enough. `encode` replaces the
        image tower: it returns a row for each picture of a batch of pixels.
        """
        return batching.stream(items, self.preprocessing, decode, encode or self.engine.encode_images)

    def try_embed_images(
        self, items: Sequence[Key | tuple[Key, Source]], *, decode: Decode = "fast",
        encode: Encode | None = None, progress: Progress | None = None,
    ) -> EmbeddingResult[Key]:  # fmt: skip
        """`embed_images` with unreadable pictures in `failures`. Items and `encode` are those of `embed_stream`;
        `progress` is called with (done, total)."""
        return batching.gathered(self.embed_stream(items, decode=decode, encode=encode), len(items), self.dim, progress)

    def embed_pixels(self, pixels: UInt8[np.ndarray, "pictures size size 3"]) -> Float[np.ndarray, "pictures dim"]:
        """One unit vector for each picture that already has the tower's size, 8-bit RGB, as from `model_input`."""
        pixels, size = np.asarray(pixels), self.preprocessing.size_px
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            raise ArgumentError(f"pixels {pixels.shape} of {pixels.dtype}; expected uint8 (n, {size}, {size}, 3).")
        return batching.encoded_pixels(pixels, self.engine.encode_images, self.dim)

    def similarity(
        self, images: Images, texts: str | Sequence[str] | np.ndarray, *, truncate: bool = False
    ) -> Float[np.ndarray, "pictures texts"]:
        """Cosines of pictures and texts; both may also be vectors of any length, see `zero_shot.as_vectors`."""
        rows = self._text_vectors(texts, truncate)  # first: it is quick and may fail
        return zero_shot.cosines(self._image_vectors(images), rows)

    @renamed_arguments(places="patches")
    def classify(
        self, images: Images, labels: Labels, *, templates: Templates = PLAIN_TEMPLATES, truncate: bool = False,
        patches: bool = False, multi_label: bool = False, scale: float | None = None,
    ) -> Classification:  # fmt: skip
        """Which label fits each picture; `{}` in a template stands for the label. A label may have several names:
        {"cat": ["a cat", "a kitty"]}.

        `patches` scores the part of a picture that fits a label best, for pictures of several things, see
        `zero_shot.patch_pooled_scores`; without it `images` may also be vectors. `multi_label` judges each label by
        itself, for pictures that several labels may fit. `scale` is an inverse temperature, as from `calibrate`; by
        default the model's own. Raises the errors of `embed_images` and `embed_labels`.
        """
        label_set = self._label_set(labels, templates, truncate, patches, multi_label)
        return label_set.classify(self._cosines(images, label_set), scale)

    def calibrate(
        self, images: Images, true_labels: Sequence[str], labels: Labels, *, templates: Templates = PLAIN_TEMPLATES,
        truncate: bool = False, patches: bool = False,
    ) -> Calibration:  # fmt: skip
        """The inverse temperature that fits pictures of known labels best: picture i shows `true_labels[i]`. Pass its
        `scale` to `classify`. Raises the errors of `classify`, and ArgumentError for other true labels."""
        label_set = self._label_set(labels, templates, truncate, patches)
        return label_set.calibrate(self._cosines(images, label_set), true_labels)

    def classify_files(
        self, sources: Images, labels: Labels, *, templates: Templates = PLAIN_TEMPLATES, truncate: bool = False,
        patches: bool = False, multi_label: bool = False, calibrate: str | os.PathLike[str] | None = None,
        follow_links: bool = False, progress: Progress | None = None,
    ) -> ClassifiedFiles:  # fmt: skip
        """`classify` for files, URLs and all pictures in folders; unreadable ones are left out. The result has the
        accuracy if pictures are in folders named as labels. `calibrate` is a folder with a folder of pictures for each
        label; `progress` is called with (done, total)."""
        from diptych.inference.picture_files import classify_files

        label_set = self._label_set(labels, templates, truncate, patches, multi_label)
        options = {"calibrate": calibrate, "follow_links": follow_links, "progress": progress}
        return classify_files(self, listed(sources, "sources"), label_set, **options)  # type: ignore[arg-type]

    def _label_set(
        self, labels: Labels, templates: Templates, truncate: bool, patches: bool, multi_label: bool = False
    ) -> LabelSet:
        vectors = self.embed_labels(labels, templates=templates, truncate=truncate)
        return LabelSet.of(self, tuple(label_names(labels)), vectors, multi_label=multi_label, patches=patches)

    def _cosines(self, images: Images, label_set: LabelSet) -> np.ndarray:
        if label_set.patches:
            return self._rows(images, "fast", label_set.encode, len(label_set.vectors))
        return self._image_vectors(images) @ label_set.vectors.T

    def embed_labels(
        self, labels: Labels, *, templates: Templates = PLAIN_TEMPLATES, truncate: bool = False
    ) -> Float[np.ndarray, "labels dim"]:
        """One unit vector for each label, the normalised mean over its names and the templates: the weights of the
        zero-shot classifier. Raises ArgumentError for no labels or a template without `{}`, and as `embed_texts`."""
        return label_vectors(self, labels, templates=templates, truncate=truncate)

    def patch_scores(
        self, pixels: UInt8[np.ndarray, "pictures size size 3"], classes: Float[np.ndarray, "labels dim"]
    ) -> Float[np.ndarray, "pictures labels"]:
        """How well some part of each picture fits each label, see `zero_shot.patch_pooled_scores`."""
        return zero_shot.patch_pooled_scores(self.engine.encode_patches(pixels), classes)

    def compare_files(
        self, sources: Images, texts: str | Sequence[str], *, truncate: bool = False, follow_links: bool = False,
        progress: Progress | None = None,
    ) -> ComparedFiles:  # fmt: skip
        """Cosine, dot product and Euclidean distance of files, URLs and all pictures in folders with texts; unreadable
        ones are left out. `progress` is called with (done, total)."""
        from diptych.inference.picture_files import compare_files

        sources, texts = listed(sources, "sources"), listed(texts, "texts")
        return compare_files(self, sources, texts, truncate=truncate, follow_links=follow_links, progress=progress)

    def difference(
        self, first: Source, second: Source, words: Labels, *, templates: Templates = PLAIN_TEMPLATES,
        truncate: bool = False,
    ) -> Difference:  # fmt: skip
        """Which words best describe the things that appeared and disappeared from the first picture to the second.
        Raises ImageError, ArgumentError for fewer than two words, and the errors of `embed_labels`."""
        from diptych.scoring.difference import difference

        vectors = self.embed_labels(words, templates=templates, truncate=truncate)
        one, other = self.embed_images([first, second], decode="fast")
        return difference(one, other, vectors, tuple(label_names(words)), scale=self.scale)

    def locate(
        self, image: Source, phrase: str, *, method: Method = "auto", scales: Sequence[float] | None = None,
        overlap: float | None = None, threshold: float | None = None, truncate: bool = False,
    ) -> HeatMap:  # fmt: skip
        """Where in a picture a phrase fits, as a map and boxes; `inference.heat_map.heat_maps` explains the options."""
        from diptych.inference.heat_map import heat_maps

        options = {"scales": scales, "overlap": overlap, "threshold": threshold, "truncate": truncate}
        return heat_maps(self, image, [phrase], method=method, **options)[0]  # type: ignore[arg-type]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a model folder: config.json, model.safetensors, tokenizer.json, preprocessor_config.json."""
        from diptych.checkpoint import save_folder

        texts = {"tokenizer_json": self.tokenizer_json, "text_preprocessing": self.text_preprocessing}
        texts |= {"search_files": self.search_files, "preprocess": self.preprocessing.to_hugging_face()}
        return save_folder(folder, self.network, **texts)  # type: ignore[arg-type]

    def save_text_encoder(self, folder: str | os.PathLike[str], *, pad_id: int | None = None) -> Path:
        """Write the text tower as `text_encoder/` and `tokenizer/` of a pipeline of diffusers, see
        `pipelines.text_encoder`. Raises CheckpointError, and writes nothing, for towers of another form than CLIP's."""
        from diptych.checkpoint.pipelines.text_encoder import TextTower, save_text_encoder

        text = TextTower(
            self.config.text, self.network.state_dict(), self.tokenizer_json or "", self.text_preprocessing
        )
        return save_text_encoder(folder, text, pad_id=pad_id, source=self.source)

    def _image_vectors(self, images: Images) -> np.ndarray:
        vectors = zero_shot.as_vectors(images, self.dim)
        return self.embed_images(images, decode="fast") if vectors is None else vectors

    def _text_vectors(self, texts: Sequence[str] | np.ndarray, truncate: bool) -> np.ndarray:
        vectors = zero_shot.as_vectors(texts, self.dim)
        return self.embed_texts(texts, truncate=truncate) if vectors is None else vectors  # type: ignore[arg-type]


def _reopened(opened: dict[str, Any], mark: str) -> Embedder:
    model = load(**opened)
    if model.fingerprint != mark:
        raise CheckpointError(f"{model.source} has changed since it was copied; restore the former model.")
    return model


def _revived(checkpoint: Checkpoint, device: str) -> Embedder:
    from diptych.engines.opening import pytorch_engine

    return Embedder(checkpoint, pytorch_engine(checkpoint, device))
