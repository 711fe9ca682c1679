"""What a run begins with: its data, the towers, the tokenizer, and which weights decay."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diptych.checkpoint import build, preprocessing_of, read
from diptych.checkpoint.weights.finite import check_finite
from diptych.data.loading.loader import shares
from diptych.data.loading.plan import Part
from diptych.data.samples import Source, Stream, spell_counts
from diptych.data.sources.opening import ENOUGH_CAPTIONS, all_captions, open_source
from diptych.data.varied import require_varied
from diptych.engines.pytorch import describe_device
from diptych.errors import ArgumentError
from diptych.media.images import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig
from diptych.nets.presets import preset
from diptych.nets.resize import image_tower, resized
from diptych.text.tokenizer import Tokenizer
from diptych.training.config import TrainConfig
from diptych.training.finetuning.freezing import parameter_groups
from diptych.training.optim.muon import Muon, is_hidden
from diptych.training.optim.precision import is_native
from diptych.training.parallel.distributed import Place, from_first, is_first
from diptych.training.parallel.sharding import groups_apart
from diptych.training.scene_source import SCENE_AUGMENTATION, SceneSource, photographs

LORA_LR = 1e-4  # what adapters want at least


class Start(NamedTuple):
    """The towers, and how texts and pictures are brought to them."""

    network: CLIP
    tokenizer: Tokenizer
    preprocess: Preprocess


def open_sources(config: TrainConfig) -> list[Source | Stream]:
    """The training data, each source as `open_source` reads it. DataError where one caption is that of most samples."""
    image, caption = config.image_column, config.caption_column
    sources = [
        open_source(spec, image_column=image, caption_column=caption, allow_outside=config.allow_outside)
        for spec in config.data
    ]
    for spec, source in zip(config.data, sources, strict=True):
        require_varied(source, spec)
    return sources


def start(config: TrainConfig, sources: Sequence[Source | Stream], checkpoint: Path | None = None) -> Start:
    """Those of a `checkpoint`, or of `config.init` at this run's resolution; else random weights, and the tokenizer
    that is named or one learnt from the captions, the same in every process."""
    if checkpoint:
        return from_model(str(checkpoint), None)
    if config.init:
        return from_model(config.init, config.image_size, config.activation, config.stride)
    architecture = preset(config.model)  # before the captions are read: a wrong name should fail at once
    if config.loss:
        architecture = replace(architecture, loss=config.loss)
    tokenizer_json = from_first(_tokenizer_json(config, sources) if is_first() else "")
    tokenizer = Tokenizer.from_json(tokenizer_json, context=config.context)
    made = sized(architecture, config.image_size, tokenizer, config.stride)
    # The form that every later reader of the saved folder will have, padding included: a bidirectional tower reads it.
    return Start(CLIP(made), Tokenizer.of_tower(tokenizer_json, made.text), own_preprocessing(made))


def _tokenizer_json(config: TrainConfig, sources: Sequence[Source | Stream]) -> str:
    if config.tokenizer:
        path = Path(config.tokenizer)
        return Tokenizer.open(path / "tokenizer.json" if path.is_dir() else path).to_json()
    captions = islice(chain.from_iterable(map(all_captions, sources)), ENOUGH_CAPTIONS)
    return Tokenizer.train(captions, vocab_size=config.vocab_size, context=config.context).to_json()


def from_model(init: str, image_size: int | None, activation: str | None = None, stride: int | None = None) -> Start:
    """A model that exists, for pictures of `image_size` and a ResNet's `stride`. ValueError without a tokenizer."""
    checkpoint = read(init, activation=activation)
    check_finite(checkpoint.state, init)
    tokenizer_json = checkpoint.tokenizer_json
    if tokenizer_json is None:
        raise ArgumentError(f"{init} came without its tokenizer.json; training needs one. Put it beside the weights.")
    spec = preprocessing_of(checkpoint)
    if image_size or stride:
        config, state = resized(checkpoint.config, checkpoint.state, image_size, stride)
        checkpoint = checkpoint._replace(config=config, state=state)
        spec = replace(spec, size_px=config.image.image_size)
    tokenizer = Tokenizer.of_tower(tokenizer_json, checkpoint.config.text, checkpoint.reading)
    return Start(build(checkpoint), tokenizer, spec)


def own_preprocessing(config: CLIPConfig) -> Preprocess:
    """What a model trained from nothing is shown: OpenAI's mean and deviation, or SigLIP's halves and squashed
    pictures under the sigmoid loss."""
    size_px = config.image.image_size
    if config.loss == "sigmoid":
        return Preprocess(size_px, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), mode="squash")
    return Preprocess(size_px)


def sized(config: CLIPConfig, image_size: int | None, tokenizer: Tokenizer, stride: int | None = None) -> CLIPConfig:
    """`config` for another picture size or stride, and for the vocabulary that the tokenizer really has."""
    end_id = tokenizer.end_id
    assert end_id is not None
    text = replace(config.text, vocab_size=tokenizer.vocab_size, context=tokenizer.context, end_id=end_id)
    # A tower that reads both ways reads its padding, too: it is filled with the end token, which no word has.
    text = replace(text, pool="end") if text.causal else replace(text, pad_id=end_id)
    return replace(config, image=image_tower(config.image, image_size, stride), text=text)


def mixture(sources: Sequence[Source | Stream], config: TrainConfig, size_px: int) -> list[Part]:
    """Every picture once an epoch, or by weights; and drawn scenes for the share that is asked for, on photographs of
    the first source that can be looked into."""
    counts = shares(list(sources), config.weights, config.samples_per_epoch)
    parts = [Part(source, count, config.augmentation) for source, count in zip(sources, counts, strict=True)]
    drawn = round(config.scenes / (1 - config.scenes) * sum(counts))
    if drawn:
        scene_px = round(1.25 * size_px)
        indexed = [source for source in sources if not isinstance(source, Stream)]
        backgrounds = photographs(indexed[0], scene_px) if indexed else []
        parts.append(Part(SceneSource(scene_px, backgrounds), drawn, SCENE_AUGMENTATION))
    return parts


def introduction(
    config: TrainConfig, sources: Sequence[Source | Stream], network: nn.Module, preprocess: Preprocess,
    device: torch.device, place: Place,
) -> list[str]:  # fmt: skip
    """What is trained on what, and what was left out, in lines."""
    counts = shares(list(sources), config.weights, config.samples_per_epoch)
    processes = f" x {place.world} processes" if place.world > 1 else ""
    lines = [
        f"{sum(counts):,} pictures · {config.init or config.model}, "
        f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}M parameters, {preprocess.size_px} px · "
        f"{describe_device(device)}{processes}, {config.precision} · {config.batch_size} pictures a step"
    ]
    if config.precision == "bf16" and device.type == "cpu" and not is_native(device):
        lines.append("bf16 is not this processor's own: it is worked out in float32, which takes its time")
    if config.shard and place.world == 1:
        lines.append("shard splits nothing for one process; start several with torchrun")
    if config.lora and config.lr < LORA_LR:
        lines.append(f"lr {config.lr:g} hardly moves adapters; they want ten times that of all weights (--recipe lora)")
    for spec, source in zip(config.data, sources, strict=True):
        lines.append(f"{spec}: {source.form}")
        if source.skipped:
            lines.append(f"{spec}: {spell_counts(source.skipped)} left out")
    return lines


def optimizers(network: CLIP, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for what is hidden and AdamW for the rest. Each group has `peak_lr`, the learning rate at
    the top of the schedule."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    hidden = {id(p) for name, p in named if config.optimizer == "muon" and is_hidden(name, p)}
    rest, matrices = [], []
    for group in parameter_groups(network, weight_decay=config.weight_decay, layer_decay=config.layer_decay):
        params, scale = group["params"], group["lr_scale"]
        rest.append({**group, "params": [p for p in params if id(p) not in hidden], "peak_lr": scale * config.lr})
        matrices.append({**group, "params": [p for p in params if id(p) in hidden], "peak_lr": scale * config.muon_lr})
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups_apart(rest), lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
    ]
    if hidden:
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32  # fp16 ends too soon
        made.append(Muon(groups_apart(matrices), momentum=config.muon_momentum, dtype=dtype))
    return made


def set_dropout(network: CLIP, drop_path: float, dropout: float, patch_dropout: float = 0.0) -> None:
    """Stochastic depth in both towers, rising linearly with depth (Huang et al. 2016, section 3); dropout in the text
    tower's branches; patches left out of pictures (Li et al. 2023, FLIP)."""
    for tower in (network.image, network.text):
        blocks = [module for module in tower.modules() if hasattr(module, "drop_path")]
        for depth, block in enumerate(blocks):
            block.drop_path = drop_path * (depth + 1) / len(blocks)  # type: ignore[assignment]
    for block in network.text.transformer.blocks:
        block.dropout = dropout  # type: ignore[assignment]
    if patch_dropout:
        if not hasattr(network.image, "patch_dropout"):
            raise ArgumentError(
                "patch_dropout leaves out patches of a vision transformer; this image tower is a ResNet."
            )
        network.image.patch_dropout = patch_dropout  # type: ignore[assignment]
