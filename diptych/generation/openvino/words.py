"""The text tower of a generator's folder in NumPy: the states of every token of a caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.checkpoint.formats import huggingface
from diptych.checkpoint.formats.name_table import look_up, renamed
from diptych.checkpoint.formats.text_tower import text_specs
from diptych.checkpoint.pipelines.layout import TEXT_ENCODER, TOKENIZER
from diptych.checkpoint.pipelines.tokenizer_files import read_tokenizer_files
from diptych.checkpoint.weights.files import read_json
from diptych.checkpoint.weights.finite import FiniteArrays
from diptych.checkpoint.weights.shape_check import check
from diptych.engines.numpy_towers.text import NumpyText
from diptych.errors import CheckpointError
from diptych.generation.openvino.files import array_specs, read_safetensors
from diptych.nets.config import TextConfig
from diptych.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32

_PROJECTION = "text_projection.weight"  # which some text encoders have and no state depends on


class NumpyWords(NamedTuple):
    """States (n, tokens, width) after the tower's last norm, and True (n, tokens) for tokens of the text."""

    states: Float32[np.ndarray, "n tokens width"]
    is_text: Bool[np.ndarray, "n tokens"]


class NumpyWordReader:
    """Reads captions; equal ones once."""

    def __init__(self, tower: NumpyText, config: TextConfig, tokenizer: Tokenizer):
        self._tower, self.tokenizer = tower, tokenizer
        self.width = config.width

    def __call__(self, captions: Sequence[str], *, truncate: bool = True) -> NumpyWords:
        """The states of captions, padded to the context, as pipelines of diffusers pad them. Raises
        TokenizerError for a caption that is longer, unless `truncate` cuts it."""
        distinct = list(dict.fromkeys(captions))
        tokens = self.tokenizer(distinct, truncate=truncate, fill_context=True)
        rows = [distinct.index(caption) for caption in captions]
        return NumpyWords(self._tower.states(tokens.ids)[rows], tokens.mask[rows])


def read_words(folder: Path) -> NumpyWordReader:
    """The reader of a generator's folder, from its text_encoder/ and tokenizer/. Raises CheckpointError with what is
    wrong with them."""
    encoder, tokenizer = folder / TEXT_ENCODER, folder / TOKENIZER
    for each in (encoder, tokenizer):
        if not each.is_dir():
            raise CheckpointError(f"{folder} has no folder {each.name}; wanted the folder of a generator.")
    words = read_tokenizer_files(tokenizer, str(tokenizer))
    source = str(encoder)
    config = huggingface.text_config_from_json(read_json(encoder / "config.json"), source, pad_id=words.pad_id)
    tower = NumpyText(config, FiniteArrays(_arrays(encoder / "model.safetensors", config, source), source))
    return NumpyWordReader(tower, config, Tokenizer.of_tower(words.tokenizer_json, config, words.text_preprocessing))


def _arrays(path: Path, config: TextConfig, source: str) -> dict[str, np.ndarray]:
    """The tower's arrays under our names."""
    found = huggingface.normalised_keys(read_safetensors(path))
    found.pop(_PROJECTION, None)
    specs = text_specs(config, source)
    check(array_specs(found), renamed(huggingface.CLIP, specs, source), source)
    arrays = dict[str, np.ndarray]()
    for name in specs:
        names, transform = look_up(huggingface.CLIP, name)
        arrays[name] = np.asarray(transform.read([found[their] for their in names]), np.float32)  # type: ignore[arg-type]
    return arrays
