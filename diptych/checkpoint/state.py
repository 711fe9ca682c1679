"""What every format is read into: a configuration, and tensors under this package's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from diptych.errors import CheckpointError, Setting
from diptych.media.preprocessing import Preprocess
from diptych.nets.config import CLIPConfig, ResNetConfig
from diptych.text.cleaning import PLAIN, TextPreprocessing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diptych.nets.clip import CLIP

NAMED = 6  # tensors that an error names before it only counts


class Checkpoint(NamedTuple):
    """A model that was read. `state` has the names of `CLIP(config).state_dict()`, with tensors, or arrays for engines
    without PyTorch; `preprocess` is in the form of Hugging Face's preprocessor_config.json; `tokenizer_json` is the
    text of tokenizer.json. Both are None where the source brings none. `source` says where it came from, and
    `text_preprocessing` how its texts become ids beyond tokenizer.json. `notes` tell a person what was decided for lack
    of a word in its files; `ignored_keys` names the keys in these that were not read, because no vector depends on
    them."""

    config: CLIPConfig
    state: Mapping[str, Any]
    preprocess: dict[str, Any] | None
    tokenizer_json: str | None
    source: str
    text_preprocessing: TextPreprocessing = PLAIN
    notes: tuple[str, ...] = ()
    ignored_keys: tuple[str, ...] = ()


def with_note(checkpoint: Checkpoint, note: str) -> Checkpoint:
    """The checkpoint with one more note before its own; "" is none."""
    return checkpoint._replace(notes=(note, *checkpoint.notes)) if note else checkpoint


def preprocessing(checkpoint: Checkpoint, format_name: str) -> Preprocess:
    """The checkpoint's preprocessing, OpenAI's where it says nothing of it."""
    if checkpoint.preprocess is None:
        return Preprocess(checkpoint.config.image.image_size)
    try:
        return Preprocess.from_hugging_face(checkpoint.preprocess)
    except ValueError as error:
        raise cannot_hold(format_name, str(error).removesuffix(".")) from error


def preprocessing_of(checkpoint: Checkpoint) -> Preprocess:
    """How the model wants its pictures, as its files say. CheckpointError where they do not, or contradict each
    other."""
    size_px = checkpoint.config.image.image_size
    if not checkpoint.preprocess:
        if checkpoint.config.loss == "sigmoid":  # SigLIP's models differ in it; OpenAI's and their kin do not
            raise CheckpointError(
                f"{checkpoint.source} came without its preprocessor_config.json, which says how it wants its pictures. "
                "Put that of the model's own folder beside its weights."
            )
        return Preprocess(size_px=size_px)
    try:
        found = Preprocess.from_hugging_face(checkpoint.preprocess)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.source}: {error}") from error
    if found.size_px != size_px:
        raise CheckpointError(
            f"{checkpoint.source}: preprocessor_config.json makes pictures of {found.size_px} px, the image tower "
            f"reads {size_px} px. Take both files from the same model."
        )
    return found


def build(checkpoint: Checkpoint) -> CLIP:
    """The network with the checkpoint's tensors in it (not copies of them), in evaluation mode."""
    from diptych.nets.clip import meta_model

    network = meta_model(checkpoint.config)
    network.load_state_dict(checkpoint.state, assign=True)
    return network.eval()


def cast_all(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """`cast` for many; what is one tensor under several names stays one."""
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
    """The first few, and how many more."""
    more = f"{separator}and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return separator.join(items[:NAMED]) + more


def activations(config: CLIPConfig) -> set[str]:
    """The activations of the transformer towers (a ResNet has none to choose)."""
    towers = [config.text] if isinstance(config.image, ResNetConfig) else [config.image, config.text]
    return {tower.activation for tower in towers}


def check_activation(config: CLIPConfig, activation: str | None, source: str) -> None:
    """What the caller says must agree with what the checkpoint says of itself."""
    if activation is not None and activations(config) != {activation}:
        says = " and ".join(sorted(activations(config)))
        raise CheckpointError(f"{source}: activation={activation!r} was asked for, but the model was made with {says}.")


def differences(config: CLIPConfig, read_back: CLIPConfig) -> list[str]:
    """Where a format would change the model: the fields that come back otherwise after writing and reading."""
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
    """What to say of a model for which a format has no words, with the forms that hold every model."""
    return CheckpointError(
        f"{format_name} cannot hold this model: {why}.",
        remedy=["For other programs convert it with ", Setting("to", "onnx"), " or ", Setting("to", "openvino"), "."],
    )


def require_same(config: CLIPConfig, read_back: CLIPConfig, format_name: str) -> None:
    """Refuse to write what the format cannot say."""
    if changed := differences(config, read_back):
        raise cannot_hold(format_name, "; ".join(changed))
