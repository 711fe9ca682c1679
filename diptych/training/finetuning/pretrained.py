"""The model that a run starts from: freezing parts of it, and comparing and interpolating it with the fine-tuned
one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.text.tokenizer import Tokenizer
from diptych.training.config import TrainConfig
from diptych.training.finetuning import lora
from diptych.training.finetuning.forgetting import ALPHAS, Forgetting, ForgettingProbe, LabelledImages
from diptych.training.finetuning.freezing import freeze_batch_norm, interpolate, lock_image, lock_text, lock_trunk
from diptych.training.validation import Validation


def freeze(network: CLIP, config: TrainConfig) -> None:
    """Freeze the parts of `network` that `config` names, and add its adapters."""
    if config.freeze_batch_norm:
        freeze_batch_norm(network)
    if config.lock_image:
        lock_image(network)
    if config.lock_trunk:
        lock_trunk(network)
    if config.lock_text:
        lock_text(network)
    if config.lora:
        lora.add(network, config.lora, config.lora_alpha)


@dataclass
class Pretrained:
    """The weights that a run starts from, on the CPU, and the measures to compare them by."""

    state: dict[str, Tensor]
    probe: ForgettingProbe
    wise_ft: float | None

    @classmethod
    def of_run(
        cls, config: TrainConfig, network: CLIP, validation: Validation | None, tokenizer: Tokenizer,
        spec: Preprocess, device: torch.device,
    ) -> "Pretrained | None":  # fmt: skip
        """None for a run from random weights, and if neither interpolation nor a measure is requested."""
        if not config.init or not (config.zero_shot or config.wise_ft is not None or validation):
            return None
        state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        sets = [LabelledImages.read(folder, spec, threads=config.threads) for folder in config.zero_shot]
        return cls(state, ForgettingProbe(validation, sets, tokenizer, spec, device), config.wise_ft)

    def interpolated(self, after: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights to save: the new ones, or those between old and new at alpha `wise_ft`."""
        return after if self.wise_ft is None else interpolate(self.state, after, self.wise_ft)

    def compare(self, network: CLIP, after: dict[str, Tensor]) -> Forgetting | None:
        """Measure the old weights, the new ones, and (with `wise_ft` or labelled sets) those between. None if there is
        nothing to measure by."""
        if not self.probe.sets and not self.probe.validation:
            return None
        alphas = ALPHAS if self.wise_ft is not None or self.probe.sets else ()
        saved = 1.0 if self.wise_ft is None else self.wise_ft
        return self.probe.measure_interpolation(network.config, self.state, after, alphas, saved=saved)
