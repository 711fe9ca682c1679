"""Sets up a run: the data, the towers, the tokenizer, the optimizers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch

from diptych.checkpoint import build, preprocessing_of, read
from diptych.checkpoint.finding import known_words_of
from diptych.checkpoint.formats import efficientnet_lite
from diptych.checkpoint.weights.files import read_tensors
from diptych.checkpoint.weights.finite import check_finite
from diptych.data.caption_variety import require_variety
from diptych.data.loading.loader import shares
from diptych.data.loading.plan import MixtureSource
from diptych.data.samples import Source, Stream
from diptych.data.sources.opening import ENOUGH_CAPTIONS, all_captions, open_source
from diptych.errors import ArgumentError, Setting
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, EfficientNetConfig
from diptych.nets.efficientnet import StandardisedHead
from diptych.nets.presets import PRESETS
from diptych.nets.resize import image_tower, resized
from diptych.text.tokenizer import END, Tokenizer
from diptych.training.architectures import architecture
from diptych.training.config import TrainConfig
from diptych.training.finetuning.freezing import parameter_groups
from diptych.training.optim.muon import Muon, is_hidden
from diptych.training.parallel.distributed import broadcast_object, is_rank_zero
from diptych.training.parallel.sharding import uniform_groups
from diptych.training.scene_source import SCENE_AUGMENTATION, SceneSource, photographs

# Pixels from 0 to 255 are read as (x - 127) / 128.
EFFICIENTNET_LITE_MEAN, EFFICIENTNET_LITE_STD = (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)


class RunSetup(NamedTuple):
    """The towers, and the tokenizer and preprocessing of their input. `known` are the words that the towers have been
    trained on before; None if that is not known."""

    network: CLIP
    tokenizer: Tokenizer
    preprocess: Preprocess
    known: frozenset[str] | None = frozenset()


def open_sources(config: TrainConfig) -> list[Source | Stream]:
    """The training data, each source by `open_source`. Raises DataError if most samples of one have the same
    caption."""
    image, caption = config.image_column, config.caption_column
    sources = [
        open_source(spec, image_column=image, caption_column=caption, allow_outside=config.allow_outside)
        for spec in config.data
    ]
    for spec, source in zip(config.data, sources, strict=True):
        if isinstance(source, Stream):  # of a list that another process may have read a moment later
            source.shards = broadcast_object(source.shards)
        require_variety(source, spec)
    return sources


def set_up(config: TrainConfig, sources: Sequence[Source | Stream], checkpoint: Path | None = None) -> RunSetup:
    """The model of a `checkpoint`, or of `config.init` at this run's resolution; otherwise random weights with the
    configured tokenizer or one trained on the captions, the same in every process."""
    if checkpoint:
        return from_model(str(checkpoint), None)
    if config.init:
        return from_model(config.init, config.image_size, config.activation, config.stride)
    model_architecture = architecture(config.model)  # first, so that an unknown name fails at once
    if config.loss:
        model_architecture = replace(model_architecture, loss=config.loss)
    tokenizer_json = broadcast_object(_tokenizer_json(config, sources) if is_rank_zero() else "")
    tokenizer = Tokenizer.from_json(tokenizer_json, context=config.context)
    model_config = sized(model_architecture, config.image_size, tokenizer, config.stride)
    # The tokenizer as loaded from the saved folder, with its padding: a bidirectional tower's output depends on it.
    text_tokenizer = Tokenizer.of_tower(tokenizer_json, model_config.text)
    network = CLIP(model_config)
    if config.image_weights:
        start_image_tower(network, config.image_weights)
    return RunSetup(network, text_tokenizer, default_preprocessing(model_config))


def start_image_tower(network: CLIP, path: str) -> None:
    """Put the released weights of an EfficientNet-Lite in the file `path` into the image tower of `network`. Its
    pooling, head and fine path stay. Raises ArgumentError if the tower has other sizes, CheckpointError for a file
    without such weights."""
    size_px = network.config.image.image_size
    released = efficientnet_lite.read(read_tensors(Path(path)), path, image_size=size_px)
    check_finite(released.state, path)
    theirs, ours = released.config.blocks, getattr(network.config.image, "blocks", None)
    if theirs != ours or released.config.feature_width != getattr(network.config.image, "feature_width", None):
        fits = [name for name, each in PRESETS.items() if getattr(each.image, "blocks", None) == theirs]
        raise ArgumentError(
            [Setting("image_weights", path), " are weights of another image tower."],
            remedy=["Pass ", Setting("model", fits[0] if fits else "an EfficientNet-Lite of their size"), "."],
            argument="image_weights",
        )
    network.load_state_dict(released.state, strict=False)


def _tokenizer_json(config: TrainConfig, sources: Sequence[Source | Stream]) -> str:
    if config.tokenizer:
        path = Path(config.tokenizer)
        return Tokenizer.open(path / "tokenizer.json" if path.is_dir() else path).to_json()
    captions = islice(chain.from_iterable(map(all_captions, sources)), ENOUGH_CAPTIONS)
    return Tokenizer.train(captions, vocab_size=config.vocab_size, context=config.context).to_json()


def from_model(init: str, image_size: int | None, activation: str | None = None, stride: int | None = None) -> RunSetup:
    """A trained model, resized to `image_size` and a ResNet's `stride`. Raises ValueError if it has no tokenizer."""
    checkpoint = read(init, activation=activation)
    check_finite(checkpoint.state, init)
    tokenizer_json = checkpoint.tokenizer_json
    if tokenizer_json is None:
        raise ArgumentError(f"{init} has no tokenizer.json; training needs one. Put it beside the weights.")
    spec = preprocessing_of(checkpoint)
    if image_size or stride:
        config, state = resized(checkpoint.config, checkpoint.state, image_size, stride)
        checkpoint = checkpoint._replace(config=config, state=state)
        spec = replace(spec, size_px=config.image.image_size)
    tokenizer = Tokenizer.of_tower(tokenizer_json, checkpoint.config.text, checkpoint.text_preprocessing)
    known = known_words_of(checkpoint)
    return RunSetup(build(checkpoint), tokenizer, spec, known and known.words)


def default_preprocessing(config: CLIPConfig) -> Preprocess:
    """The preprocessing of a new model: OpenAI's mean and standard deviation, or an EfficientNet-Lite's; under the
    sigmoid loss SigLIP's 0.5 and squashed pictures."""
    size_px = config.image.image_size
    if isinstance(config.image, EfficientNetConfig):
        return Preprocess(size_px, EFFICIENTNET_LITE_MEAN, EFFICIENTNET_LITE_STD)
    if config.loss == "sigmoid":
        return Preprocess(size_px, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), mode="squash")
    return Preprocess(size_px)


def sized(config: CLIPConfig, image_size: int | None, tokenizer: Tokenizer, stride: int | None = None) -> CLIPConfig:
    """`config` for another picture size or stride, and for the tokenizer's vocabulary and context."""
    end_id = tokenizer.end_id
    if end_id is None:
        raise ArgumentError(
            f"this tokenizer.json has no {END}, at which a new text tower pools; one with other marks (WordPiece, "
            "SentencePiece) is trained from a model that has it. Pass that model as init."
        )
    text = replace(config.text, vocab_size=tokenizer.vocab_size, context=tokenizer.context, end_id=end_id)
    # A bidirectional tower reads its padding too, so texts are padded with the end token, which is in no word.
    text = replace(text, pool="end") if text.causal else replace(text, pad_id=end_id)
    return replace(config, image=image_tower(config.image, image_size, stride), text=text)


def mixture(sources: Sequence[Source | Stream], config: TrainConfig, size_px: int) -> list[MixtureSource]:
    """The parts of an epoch: every picture once, or by weights, and the configured share of drawn scenes, on
    photographs of the first indexed source."""
    counts = shares(list(sources), config.weights, config.samples_per_epoch)
    parts = [MixtureSource(source, count, config.augmentation) for source, count in zip(sources, counts, strict=True)]
    n_scenes = round(config.scenes / (1 - config.scenes) * sum(counts))
    if n_scenes:
        scene_px = round(1.25 * size_px)
        indexed = [source for source in sources if not isinstance(source, Stream)]
        backgrounds = photographs(indexed[0], scene_px) if indexed else []
        parts.append(MixtureSource(SceneSource(scene_px, backgrounds), n_scenes, SCENE_AUGMENTATION))
    return parts


def optimizers(network: CLIP, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for hidden matrices and AdamW for the rest. Each group has `peak_lr`, the highest learning rate of
    the schedule."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    hidden = {id(p) for name, p in named if config.optimizer == "muon" and is_hidden(name, p)}
    rest, matrices = [], []
    for group in parameter_groups(network, weight_decay=config.weight_decay, layer_decay=config.layer_decay):
        params, scale = group["params"], group["lr_scale"]
        rest.append({**group, "params": [p for p in params if id(p) not in hidden], "peak_lr": scale * config.lr})
        matrices.append({**group, "params": [p for p in params if id(p) in hidden], "peak_lr": scale * config.muon_lr})
    result: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(uniform_groups(rest), lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
    ]
    if hidden:
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32  # fp16's range is too small
        result.append(Muon(uniform_groups(matrices), momentum=config.muon_momentum, dtype=dtype))
    return result


def set_dropout(network: CLIP, drop_path: float, dropout: float, patch_dropout: float = 0.0) -> None:
    """Set stochastic depth in both towers, rising linearly with depth (Huang et al. 2016, section 3), dropout in the
    text tower's branches and an EfficientNet's head, and patch dropout (FLIP; Li et al. 2023)."""
    for tower in (network.image, network.text):
        blocks = [module for module in tower.modules() if hasattr(module, "drop_path")]
        for depth, block in enumerate(blocks):
            block.drop_path = drop_path * (depth + 1) / len(blocks)  # type: ignore[assignment]
    heads = [module for module in network.image.modules() if isinstance(module, StandardisedHead)]
    for part in (*network.text.transformer.blocks, *heads):
        part.dropout = dropout  # type: ignore[assignment]
    if patch_dropout:
        if not hasattr(network.image, "patch_dropout"):
            raise ArgumentError(
                "patch_dropout leaves out patches of a vision transformer; this image tower is a convolutional network."
            )
        network.image.patch_dropout = patch_dropout  # type: ignore[assignment]
