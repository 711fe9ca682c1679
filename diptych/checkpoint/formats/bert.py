"""Sentence encoders in BERT's form (transformers, models/bert; sentence-transformers) as text towers: a folder with
config.json, weights, tokenizer.json, and perhaps sentence-transformers' modules.json and pooling."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.checkpoint.formats import tokenization
from diptych.checkpoint.formats.huggingface import ACTIVATIONS, SIZES, padding_id
from diptych.checkpoint.formats.name_table import QKV, KeyMapping, KeyMappings, look_up, renamed
from diptych.checkpoint.formats.text_tower import TextTower, text_specs
from diptych.checkpoint.formats.unread_keys import unread
from diptych.checkpoint.weights.files import WEIGHTS, read_json, read_text, read_weights, weights_of
from diptych.checkpoint.weights.shape_check import TensorSpec, check, specs_of
from diptych.errors import ArgumentError, CheckpointError, TokenizerFileError
from diptych.nets.config import TextConfig
from diptych.text.tokenizer_file import open_tokenizer
from diptych.text.vocabulary import smaller_vocabulary
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from torch import Tensor

_LAYER, _BLOCK = "encoder.layer.N", "text.transformer.blocks.N"
MAPPINGS: KeyMappings = (
    KeyMapping("text.token.weight", "embeddings.word_embeddings.weight"),
    KeyMapping("text.positions", "embeddings.position_embeddings.weight"),
    KeyMapping("text.norm_pre.*", "embeddings.LayerNorm.*"),
    KeyMapping(
        f"{_BLOCK}.attention.qkv.*",
        tuple(f"{_LAYER}.attention.self.{part}.*" for part in ("query", "key", "value")),
        QKV,
    ),
    KeyMapping(f"{_BLOCK}.attention.out.*", f"{_LAYER}.attention.output.dense.*"),
    KeyMapping(f"{_BLOCK}.norm_1.*", f"{_LAYER}.attention.output.LayerNorm.*"),
    KeyMapping(f"{_BLOCK}.mlp.fc.*", f"{_LAYER}.intermediate.dense.*"),
    KeyMapping(f"{_BLOCK}.mlp.proj.*", f"{_LAYER}.output.dense.*"),
    KeyMapping(f"{_BLOCK}.norm_2.*", f"{_LAYER}.output.LayerNorm.*"),
)
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"
HEADS = ("pooler.", "cls.")  # of BERT's training, which sentence encoders do not use
DEFAULTS: dict[str, Any] = {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0, "type_vocab_size": 2}
KEYS = SIZES | {"max_position_embeddings": "context", "vocab_size": "vocab_size"}
TRAINING = {"is_decoder", "add_cross_attention", "classifier_dropout", "pooler_fc_size", "model_type", *DEFAULTS}
NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def read_text_tower(folder: str | os.PathLike[str], *, context: int | None = None) -> TextTower:
    """Read the folder of a BERT, or of a sentence-transformers model of a BERT and its mean. `context` is the number of
    tokens that the tower will read: by default, and at most, as many as the folder says.

    Raises CheckpointError for another architecture or pooling, weights that do not fit, or a missing tokenizer.json;
    ArgumentError for a `context` below 1."""
    if context is not None and context < 1:
        raise ArgumentError(f"context is {context}; wanted a number of tokens, 1 or more.", argument="context")
    folder, source = Path(folder), os.fspath(folder)
    settings = read_json(folder / "config.json")
    _check_modules(folder, source)
    words = read_text(folder / "tokenizer.json")
    if words is None:
        remedy = f"AutoTokenizer.from_pretrained({source!r}).save_pretrained({source!r})"
        raise CheckpointError(f"{source} has no tokenizer.json; transformers makes one: {remedy}")
    tokenizer = tokenization.settings_of(folder)
    _check_normalizer(tokenizer, words, source)
    text_preprocessing = tokenization.from_hugging_face(tokenizer, words, source, reads_padding=False)
    config = _config(settings, source)
    pad_id = padding_id(words, tokenizer)
    config = replace(config, end_id=_end_id(words, source), pad_id=config.pad_id if pad_id is None else pad_id)
    state = _state(read_weights(weights_of(folder, WEIGHTS)), config, settings, source)
    config = replace(config, context=min(config.context, context or _most_tokens(folder) or config.context))
    state["text.positions"] = state["text.positions"][: config.context].clone()
    return TextTower(config, state, words, text_preprocessing)


def _most_tokens(folder: Path) -> int | None:
    """How many tokens of a text sentence-transformers reads; None if it does not say."""
    path = folder / "sentence_bert_config.json"
    most = read_json(path).get("max_seq_length") if path.is_file() else None
    if most is not None and (type(most) is not int or most < 1):
        raise CheckpointError(f"{path}: max_seq_length={most!r:.80}; wanted a number of tokens, 1 or more.")
    return most


def _config(settings: dict[str, Any], source: str) -> TextConfig:
    """The tower of a config.json, with the identity as its projection."""
    if settings.get("model_type") != "bert":
        raise CheckpointError(
            f"{source}: config.json: model_type={settings.get('model_type')!r}; only bert is read here."
        )
    settings = DEFAULTS | settings
    try:
        for key in ("is_decoder", "add_cross_attention"):
            if settings.get(key):
                raise ArgumentError(f"{key}={settings[key]!r} is not supported; only False is.")
        unread(settings, TRAINING | KEYS.keys() | {"pooler_type"}, "")
        if settings["hidden_act"] not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ArgumentError(f"hidden_act={settings['hidden_act']!r} is not supported; {known} are.")
        sizes: dict[str, Any] = {ours: settings[theirs] for theirs, ours in KEYS.items()}
        form: dict[str, Any] = {"pool": "mean", "causal": False, "norm_position": "post"}
        return TextConfig(
            **sizes, **form, activation=ACTIVATIONS[settings["hidden_act"]], pad_id=settings["pad_token_id"]
        )
    except KeyError as error:
        raise CheckpointError(f"{source}: config.json lacks {error}.") from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: config.json: {error}") from error


def _state(tensors: dict[str, Tensor], config: TextConfig, settings: dict[str, Any], source: str) -> dict[str, Tensor]:
    """Their tensors under our names. Every text is of the first token type, whose row is added to all positions."""
    import torch

    tensors = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(HEADS)}
    ours = text_specs(config, source)
    types = {TOKEN_TYPES: TensorSpec(((DEFAULTS | settings)["type_vocab_size"], config.width))}
    check(specs_of(tensors), renamed(MAPPINGS, ours, source) | types, source)
    state = {}
    for name in ours:
        names, transform = look_up(MAPPINGS, name)
        state[name] = transform.read([tensors[their] for their in names]).float()
    state["text.positions"] = state["text.positions"] + tensors[TOKEN_TYPES][0].float()
    return state | {"text.proj.weight": torch.eye(config.width)}


def _check_modules(folder: Path, source: str) -> None:
    """Raise CheckpointError unless sentence-transformers' modules, if there are any, are a transformer, the mean of its
    tokens, and a normalisation."""
    text = read_text(folder / "modules.json")
    if text is None:
        return
    try:
        modules = [(str(each["type"]).rpartition(".")[2], str(each["path"])) for each in parse_json(text)]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder / 'modules.json'} is not a list of modules ({error}).") from error
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise CheckpointError(
            f"{source} has the modules {', '.join(kinds)}; only Transformer, Pooling, Normalize are read."
        )
    pooling = read_json(folder / Path(modules[1][1]).name / "config.json")
    modes = {key for key, value in pooling.items() if key.startswith("pooling_mode") and value is True}
    if modes != {"pooling_mode_mean_tokens"}:
        raise CheckpointError(
            f"{source}: its pooling is {', '.join(sorted(modes)) or 'not known'}; only the mean is read."
        )


def _check_normalizer(settings: dict[str, Any], tokenizer_json: str, source: str) -> None:
    """Raise CheckpointError if tokenizer_config.json sets another normalisation than tokenizer.json has, since
    transformers follows the former."""
    normalizer = tokenization.part(tokenizer_json, "normalizer")
    for theirs, name in NORMALIZER.items():
        if normalizer.get("type") == "BertNormalizer" and settings.get(theirs, normalizer.get(name)) != normalizer.get(
            name
        ):
            found = f"{theirs}={settings[theirs]!r}, tokenizer.json {normalizer.get(name)!r}"
            raise CheckpointError(f"{source}: tokenizer_config.json says {found}; save both with the same library.")


def _end_id(tokenizer_json: str, source: str) -> int:
    """The id of the token after every text: [SEP]."""
    try:
        tokenizer = open_tokenizer(tokenizer_json)
    except TokenizerFileError as error:
        raise CheckpointError(f"{source}: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = tokenizer.encode("").ids
    if len(ids) < 2:
        raise CheckpointError(
            f"{source}: its tokenizer.json puts no tokens around a text; a BERT's has [CLS] and [SEP]."
        )
    return ids[-1]


def with_smaller_vocabulary(tower: TextTower, counts: Mapping[str, float], size: int) -> TextTower:
    """The tower with at most `size` of its tokens, see `text.vocabulary.smaller_vocabulary`: texts whose tokens are all
    kept have the same vectors."""
    vocabulary = smaller_vocabulary(tower.tokenizer_json, counts, size)
    former = vocabulary.ids.tolist()
    state = tower.state | {"text.token.weight": tower.state["text.token.weight"][former]}
    ids = {"end_id": former.index(tower.config.end_id), "pad_id": former.index(tower.config.pad_id)}
    config = replace(tower.config, vocab_size=len(former), **ids)
    return tower._replace(config=config, state=state, tokenizer_json=vocabulary.tokenizer_json)
