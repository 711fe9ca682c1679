"""A text tower alone, as folders of text encoders have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from diptych.checkpoint.weights.shape_check import TensorSpec, expected_specs
from diptych.nets.config import CLIPConfig, TextConfig
from diptych.text.cleaning import TextPreprocessing
from diptych.text.tokenizer import Tokenizer, missing

if TYPE_CHECKING:
    from torch import Tensor

    from diptych.nets.text import TextTransformer

PREFIX = "text."


class TextTower(NamedTuple):
    """A text tower alone. `state` has the names of `CLIP.state_dict()` under "text.". Where the folder it was read from
    has no projection, `text.proj.weight` is the identity, so that its vectors are the encoder's own. `tokenizer_json`
    is empty for a model without one."""

    config: TextConfig
    state: dict[str, Tensor]
    tokenizer_json: str
    text_preprocessing: TextPreprocessing

    def network(self) -> TextTransformer:
        """The torch module with these tensors in it, in evaluation mode."""
        from diptych.nets.text import TextTransformer

        network = TextTransformer(self.config, len(self.state["text.proj.weight"]))
        network.load_state_dict({name.removeprefix(PREFIX): tensor for name, tensor in self.state.items()})
        return network.eval()

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with the context and padding of the tower. Raises TokenizerError."""
        if not self.tokenizer_json:
            raise missing(self.config, "the text tower")
        return Tokenizer.of_tower(self.tokenizer_json, self.config, self.text_preprocessing)


def text_specs(text: TextConfig, source: str) -> dict[str, TensorSpec]:
    """The tensors of a text tower without its projection, under our names. Raises CheckpointError if there is no such
    network."""
    specs = expected_specs(CLIPConfig(text.width, text=text), source)
    return {name: spec for name, spec in specs.items() if name.startswith(PREFIX) and not name.startswith("text.proj.")}
