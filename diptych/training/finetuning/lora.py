"""Low-rank adaptation (Hu et al. 2021): a pretrained model learns a little through narrow detours beside its matrices,
which are folded into them when it is saved, so that nobody downstream can tell."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.errors import ArgumentError
from diptych.nets.clip import CLIP
from diptych.nets.resnet import AttentionPool, Bottleneck
from diptych.nets.transformer import Block, MAPHead
from diptych.training.finetuning.freezing import freeze_batch_norm

OWN = ("down", "up", "strength")  # what an adapted layer has beside its weight and bias


class AdaptedLinear(nn.Linear):
    """W x + strength * up (down x). The detour goes beside W, whose gradient is then never computed: a step costs a
    fifth less than one that trains W."""

    down: nn.Parameter
    up: nn.Parameter
    strength: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.linear(self.strength * F.linear(x, self.down), self.up)


class AdaptedConv2d(nn.Conv2d):
    """A convolution by W + strength * up down: here the map is larger than the weights, and a detour costs more."""

    down: nn.Parameter
    up: nn.Parameter
    strength: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight + change(self.weight, self.down, self.up, self.strength), self.bias)


ADAPTED: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: AdaptedLinear, nn.Conv2d: AdaptedConv2d}
PLAIN = {adapted: plain for plain, adapted in ADAPTED.items()}


def change(weight: Tensor, down: Tensor, up: Tensor, strength: Tensor) -> Tensor:
    """What the adapter adds to `weight`, in its shape: alpha / rank * up @ down (section 4.1)."""
    return (strength * (up @ down)).view(weight.shape)


def add(network: CLIP, rank: int, alpha: float) -> None:
    """Give both towers adapters of `rank`, in place, and leave nothing else trainable but the logit scale and bias,
    which turn no vector.

    Adapted are the linear layers of attention and MLP in transformers, the convolutions of a ResNet's residual blocks,
    and both kinds' attention pooling (but for SigLIP's fused query, key and value, which are read by halves). A tower
    that is locked gets none. Batch norm is frozen, statistics and all. The start is the model as it was, to the bit:
    `up` begins at zero. `weight` and `bias` keep their names in the state, which gains `down`, `up` and `strength` for
    each layer: a run is taken up by `add` and `load_state_dict`. Call it before the optimizer, a compiler or
    DistributedDataParallel see the network. Raises ArgumentError where there is nothing to adapt, or adapters already.
    """
    if rank < 1 or alpha <= 0:
        raise ArgumentError(f"LoRA of rank {rank} and alpha {alpha}; wanted a rank of 1 or more and an alpha above 0.")
    if any(type(module) in PLAIN for module in network.modules()):
        raise ArgumentError("the network has adapters already; merge them first.")
    layers = [layer for layer in adaptable(network) if layer.weight.requires_grad]
    if not layers:
        raise ArgumentError("LoRA finds nothing to adapt: every layer of both towers is locked.")
    scalars = [p for p in (network.logit_scale, network.logit_bias) if p is not None and p.requires_grad]
    network.requires_grad_(False)
    freeze_batch_norm(network)
    for scalar in scalars:
        scalar.requires_grad_()
    for layer in layers:
        _adapt(layer, rank, alpha)


def adaptable(network: CLIP) -> list[nn.Linear | nn.Conv2d]:
    """The layers that `add` speaks of, in the network's order."""
    found: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, (Block, Bottleneck, AttentionPool)):
            found += [layer for layer in module.modules() if type(layer) in ADAPTED]
        elif isinstance(module, MAPHead):
            found += [module.attention.out, module.mlp.fc, module.mlp.proj]
    return found  # type: ignore[return-value]


def _adapt(layer: nn.Linear | nn.Conv2d, rank: int, alpha: float) -> None:
    """Another class, three tensors more: every reference to the layer, and every name in its state, stays good."""
    weight = layer.weight
    fan_in = weight[0].numel()
    layer.__class__ = ADAPTED[type(layer)]  # type: ignore[assignment]
    layer.down = nn.Parameter(weight.new_empty(rank, fan_in).normal_(std=fan_in**-0.5))
    layer.up = nn.Parameter(weight.new_zeros(len(weight), rank))
    layer.register_buffer("strength", weight.new_tensor(alpha / rank))


def merge(network: CLIP) -> CLIP:
    """Fold the adapters into the weights, in place, and return the network, an ordinary one again; without adapters it
    stays as it is. To go on training, merge a copy: `merge(copy.deepcopy(network))`."""
    state = merged_state(network.state_dict())
    for layer in network.modules():
        if type(layer) in PLAIN:
            layer.__class__ = PLAIN[type(layer)]
            for name in OWN:
                delattr(layer, name)
    network.load_state_dict(state)
    return network


@torch.no_grad()
def merged_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of the ordinary model that an adapted one's state stands for; the adapted one is left as it is."""
    merged = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in OWN}
    for prefix in (name.removesuffix("down") for name in state if name.endswith(".down")):
        weight = state[prefix + "weight"]
        merged[prefix + "weight"] = weight + change(weight, *(state[prefix + name] for name in OWN))
    return merged
