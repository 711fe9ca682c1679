"""A text tower's states for every token of a caption, and which of them are words and not padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from diptych.nets.text import TextTransformer
    from diptych.text.tokenizer import Tokenizer


class Words(NamedTuple):
    """States (n, tokens, width) after the tower's last norm, and True (n, tokens) for tokens of the text."""

    states: Float[Tensor, "n tokens width"]
    is_text: Bool[Tensor, "n tokens"]


class WordReader:
    """Reads captions with a tower that does not change."""

    def __init__(self, tower: TextTransformer, tokenizer: Tokenizer):
        self.tower, self.tokenizer = tower.eval().requires_grad_(False), tokenizer
        self.width = tower.config.width

    @torch.no_grad()
    def __call__(self, captions: Sequence[str], *, truncate: bool = True) -> Words:
        """The states of captions, padded to the context, as pipelines of diffusers pad them."""
        tokens = self.tokenizer(list(captions), truncate=truncate, fill_context=True)
        ids = torch.from_numpy(tokens.ids)
        return Words(self.tower.states(ids), torch.from_numpy(tokens.mask))
