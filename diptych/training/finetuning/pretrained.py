"""The model that a run begins with: which of its parts stay, and how it is compared and mixed with what it becomes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.media.images import Preprocess
from diptych.nets.clip import CLIP
from diptych.text.tokenizer import Tokenizer
from diptych.training.config import TrainConfig
from diptych.training.finetuning import lora
from diptych.training.finetuning.forgetting import ALPHAS, Forgetting, LabelledPictures, Probe
from diptych.training.finetuning.freezing import freeze_batch_norm, interpolate, lock_image
from diptych.training.validation import Validation


def hold(network: CLIP, config: TrainConfig) -> None:
    """Freeze what is to stay as it is, and add adapters where they are to be trained in the weights' place."""
    if config.freeze_batch_norm:
        freeze_batch_norm(network)
    if config.lock_image:
        lock_image(network)
    if config.lora:
        lora.add(network, config.lora, config.lora_alpha)


@dataclass
class Pretrained:
    """The weights that a run began with, on the processor, and the measures that they are compared by."""

    state: dict[str, Tensor]
    probe: Probe
    wise_ft: float | None

    @classmethod
    def of_run(
        cls, config: TrainConfig, network: CLIP, validation: Validation | None, tokenizer: Tokenizer,
        spec: Preprocess, device: torch.device,
    ) -> "Pretrained | None":  # fmt: skip
        """None for a run from nothing, and where neither a mixture nor a measure is wanted."""
        if not config.init or not (config.zero_shot or config.wise_ft is not None or validation):
            return None
        state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        sets = [LabelledPictures.read(folder, spec, threads=config.threads) for folder in config.zero_shot]
        return cls(state, Probe(validation, sets, tokenizer, spec, device), config.wise_ft)

    def mixed(self, after: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is saved: the new weights, or a place between the old and the new."""
        return after if self.wise_ft is None else interpolate(self.state, after, self.wise_ft)

    def compare(self, network: CLIP, after: dict[str, Tensor]) -> Forgetting | None:
        """What was learnt and what was forgotten: before, after, and where it tells more, along the line between. None
        where there is nothing to measure it by."""
        if not self.probe.sets and not self.probe.validation:
            return None
        alphas = ALPHAS if self.wise_ft is not None or self.probe.sets else ()
        saved = 1.0 if self.wise_ft is None else self.wise_ft
        return self.probe.follow(network.config, self.state, after, alphas, saved=saved)
