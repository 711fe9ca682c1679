"""What a run begins with: the towers, the tokenizer, the mixture of data, and which weights decay."""

from dataclasses import replace
from typing import NamedTuple

from torch import nn

from diptych.checkpoint import build, preprocessing_of, read
from diptych.data.loader import Part
from diptych.data.sources import Source, all_captions
from diptych.images import Preprocess
from diptych.nets.clip import CLIP, CLIPConfig
from diptych.nets.presets import preset
from diptych.nets.resize import resized
from diptych.tokenizer import Tokenizer
from diptych.training.recipe import TrainConfig
from diptych.training.scenes import SCENE_AUGMENTATION, SceneSource, photographs


class Start(NamedTuple):
    """The towers, and how texts and pictures are brought to them."""

    network: CLIP
    tokenizer: Tokenizer
    preprocess: Preprocess


def start(config: TrainConfig, sources: list[Source]) -> Start:
    """Those of `config.init` at this run's resolution; else random weights and a tokenizer learnt from the captions."""
    if config.init:
        return from_model(config.init, config.image_size)
    architecture = preset(config.model)  # before the captions are read: a wrong name should fail at once
    captions = (caption for source in sources for caption in all_captions(source))
    tokenizer = Tokenizer.train(captions, vocab_size=config.vocab_size, context=config.context)
    made = sized(architecture, config.image_size, tokenizer)
    # The form that every later reader of the saved folder will have, padding included: a bidirectional tower reads it.
    return Start(CLIP(made), Tokenizer.of_tower(tokenizer.to_json(), made.text), own_preprocessing(made))


def from_model(init: str, image_size: int | None) -> Start:
    """A model that exists, for pictures of `image_size`. ValueError without a tokenizer."""
    checkpoint = read(init)
    tokenizer_json = checkpoint.tokenizer_json
    if tokenizer_json is None:
        raise ValueError(f"{init} came without its tokenizer.json; training needs one. Put it beside the weights.")
    spec = preprocessing_of(checkpoint)
    if image_size:
        config, state = resized(checkpoint.config, checkpoint.state, image_size)
        checkpoint, spec = checkpoint._replace(config=config, state=state), replace(spec, size_px=image_size)
    return Start(build(checkpoint), Tokenizer.of_tower(tokenizer_json, checkpoint.config.text), spec)


def own_preprocessing(config: CLIPConfig) -> Preprocess:
    """What a model trained from nothing is shown: OpenAI's mean and deviation, or SigLIP's halves and squashed
    pictures under the sigmoid loss."""
    size_px = config.image.image_size
    if config.loss == "sigmoid":
        return Preprocess(size_px, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), mode="squash")
    return Preprocess(size_px)


def sized(config: CLIPConfig, image_size: int | None, tokenizer: Tokenizer) -> CLIPConfig:
    """`config` for another picture size, and for the vocabulary that the tokenizer really has."""
    image = replace(config.image, image_size=image_size) if image_size else config.image
    end_id = tokenizer.end_id
    assert end_id is not None
    text = replace(config.text, vocab_size=tokenizer.vocab_size, context=tokenizer.context, end_id=end_id)
    # A tower that reads both ways reads its padding, too: it is filled with the end token, which no word has.
    text = replace(text, pool="end") if text.causal else replace(text, pad_id=end_id)
    return replace(config, image=image, text=text)


def mixture(sources: list[Source], config: TrainConfig, size_px: int) -> list[Part]:
    """Every picture once an epoch, and drawn scenes for the share that is asked for."""
    parts = [Part(source, len(source), config.augmentation) for source in sources]
    count = round(config.scenes / (1 - config.scenes) * sum(len(source) for source in sources))
    if count:
        scene_px = round(1.25 * size_px)
        parts.append(Part(SceneSource(scene_px, photographs(sources[0], scene_px)), count, SCENE_AUGMENTATION))
    return parts


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices decay; gains, biases, the class token and the logit scale do not (Radford et al. 2021, section 2.5)."""
    matrices = [p for p in network.parameters() if p.ndim >= 2]
    rest = [p for p in network.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def set_dropout(network: CLIP, drop_path: float, dropout: float) -> None:
    """Stochastic depth in both towers, rising linearly with depth (Huang et al. 2016, section 3); dropout in the text
    tower's branches."""
    for tower in (network.image, network.text):
        blocks = [module for module in tower.modules() if hasattr(module, "drop_path")]
        for depth, block in enumerate(blocks):
            block.drop_path = drop_path * (depth + 1) / len(blocks)  # type: ignore[assignment]
    for block in network.text.transformer.blocks:
        block.dropout = dropout  # type: ignore[assignment]
