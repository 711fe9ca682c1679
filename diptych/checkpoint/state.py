"""The result of reading any format: a configuration, and tensors with this package's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from diptych.errors import CheckpointError, Setting
from diptych.media.preprocessing import Preprocess
from diptych.nets.config import CLIPConfig, ViTConfig
from diptych.text.cleaning import PLAIN, TextPreprocessing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diptych.nets.clip import CLIP

NAMED = 6  # items that an error lists before it counts the rest


EFFICIENTNET = "its image tower is an EfficientNet"  # why no other library's format holds a model


class Checkpoint(NamedTuple):
    """A model that was read. `state` has the names of `CLIP(config).state_dict()`, with tensors, or arrays for engines
    without PyTorch; `preprocess` is in the form of Hugging Face's preprocessor_config.json; `tokenizer_json` is the
    text of tokenizer.json. Both are None if the source has none. `source` is its origin, and `text_preprocessing` is
    applied to texts beside tokenizer.json. `notes` are sentences on choices that its files leave open; `ignored_keys`
    are the keys in its files that were not read, because no vector depends on them. `search_files` are the
    contents of words.txt and reference_pictures.safetensors, by name, if the source has them."""

    config: CLIPConfig
    state: Mapping[str, Any]
    preprocess: dict[str, Any] | None
    tokenizer_json: str | None
    source: str
    text_preprocessing: TextPreprocessing = PLAIN
    notes: tuple[str, ...] = ()
    ignored_keys: tuple[str, ...] = ()
    search_files: Mapping[str, bytes] = MappingProxyType({})


def with_note(checkpoint: Checkpoint, note: str) -> Checkpoint:
    """The checkpoint with `note`, unless empty, before its notes."""
    return checkpoint._replace(notes=(note, *checkpoint.notes)) if note else checkpoint


def preprocessing(checkpoint: Checkpoint, format_name: str) -> Preprocess:
    """The checkpoint's preprocessing; OpenAI's if it has none."""
    if checkpoint.preprocess is None:
        return Preprocess(checkpoint.config.image.image_size)
    try:
        return Preprocess.from_hugging_face(checkpoint.preprocess)
    except ValueError as error:
        raise cannot_hold(format_name, str(error).removesuffix(".")) from error


def preprocessing_of(checkpoint: Checkpoint) -> Preprocess:
    """The preprocessing of pictures in the model's files. Raises CheckpointError if it is missing or they contradict
    each other."""
    size_px = checkpoint.config.image.image_size
    if not checkpoint.preprocess:
        if checkpoint.config.loss == "sigmoid":  # it differs between SigLIP's models, unlike OpenAI's
            raise CheckpointError(
                f"{checkpoint.source} lacks its preprocessor_config.json, which has the preprocessing of pictures. "
                "Copy it from the model's original folder to the weights."
            )
        return Preprocess(size_px=size_px)
    try:
        found = Preprocess.from_hugging_face(checkpoint.preprocess)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.source}: {error}") from error
    if found.size_px != size_px:
        raise CheckpointError(
            f"{checkpoint.source}: preprocessor_config.json makes pictures of {found.size_px} px, the image tower "
            f"reads {size_px} px. Use both files of the same model."
        )
    return found


def build(checkpoint: Checkpoint) -> CLIP:
    """The network with the checkpoint's tensors in it (not copies of them), in evaluation mode."""
    from diptych.nets.clip import meta_model

    network = meta_model(checkpoint.config)
    network.load_state_dict(checkpoint.state, assign=True)
    return network.eval()


def cast_all(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """`cast` for many; a tensor with several names stays one."""
    made: dict[tuple, Tensor] = {}

    def once(tensor: Tensor) -> Tensor:
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in made:
            made[key] = cast(tensor, dtype)
        return made[key]

    return {name: once(tensor) for name, tensor in state.items()}


def cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Floating tensors in `dtype` (None: as they are); counters stay whole numbers."""
    return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor


def listing(items: list[str], separator: str) -> str:
    """The first few items, and the number of the rest."""
    more = f"{separator}and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return separator.join(items[:NAMED]) + more


def activations(config: CLIPConfig) -> set[str]:
    """The activations of the transformer towers (a convolutional network has none to choose)."""
    towers = [config.image, config.text] if isinstance(config.image, ViTConfig) else [config.text]
    return {tower.activation for tower in towers}


def check_activation(config: CLIPConfig, activation: str | None, source: str) -> None:
    """Raise CheckpointError if the caller's activation differs from the checkpoint's."""
    if activation is not None and activations(config) != {activation}:
        trained_with = " and ".join(sorted(activations(config)))
        raise CheckpointError(
            f"{source}: activation={activation!r} was requested, but the model was trained with {trained_with}."
        )


def differences(config: CLIPConfig, read_back: CLIPConfig) -> list[str]:
    """The fields of a model that change when it is written in a format and read again."""
    mine, theirs = _flat(config), _flat(read_back)
    changed = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
    return [f"{key}={mine.get(key)!r} would be read as {theirs.get(key)!r}" for key in changed]


def _flat(config: CLIPConfig) -> dict[str, Any]:
    towers = {"image": asdict(config.image), "text": asdict(_as_computed(config).text)}
    fields = {f"{tower}.{key}": value for tower, values in towers.items() for key, value in values.items()}
    return {"embed_dim": config.embed_dim, "loss": config.loss, **fields}


def _as_computed(config: CLIPConfig) -> CLIPConfig:
    """Without what changes no vector: padding under a causal mask, the end token where pooling does not look for it.
    Where the end token has the highest id, the first end token is the highest id."""
    text = config.text
    if text.pool == "end" and text.end_id == text.vocab_size - 1:
        text = replace(text, pool="argmax")
    if text.pool != "end":
        text = replace(text, end_id=text.vocab_size - 1)
    return replace(config, text=replace(text, pad_id=0) if text.causal else text)


def cannot_hold(format_name: str, why: str) -> CheckpointError:
    """An error for a model that a format cannot represent, with the formats that can."""
    return CheckpointError(
        f"{format_name} cannot hold this model: {why}.",
        remedy=["For other programs convert it with ", Setting("to", "onnx"), " or ", Setting("to", "openvino"), "."],
    )


def require_same(config: CLIPConfig, read_back: CLIPConfig, format_name: str) -> None:
    """Raise CheckpointError if the format cannot represent the model."""
    if changed := differences(config, read_back):
        raise cannot_hold(format_name, "; ".join(changed))
