"""Low-rank adaptation (LoRA; Hu et al. 2021): trains low-rank updates beside frozen matrices and merges them on
save."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.errors import ArgumentError
from diptych.nets.clip import CLIP
from diptych.nets.efficientnet import ClassPath, InvertedResidual, StandardisedHead
from diptych.nets.resnet import AttentionPool, Bottleneck
from diptych.nets.transformer import Block, MAPHead
from diptych.training.finetuning.freezing import freeze_batch_norm

# A and B of the paper, and alpha / r: the tensors of an adapted layer beside its weight and bias. The names are on
# disk, in the checkpoints of runs.
ADAPTER = ("down", "up", "strength")


class LoRALinear(nn.Linear):
    """W_0 x + alpha / r * B (A x). W_0 is frozen and its gradient never computed: a step is a fifth cheaper than one
    that trains W_0."""

    down: nn.Parameter
    up: nn.Parameter
    strength: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.linear(self.strength * F.linear(x, self.down), self.up)


class LoRAConv2d(nn.Conv2d):
    """A convolution with W_0 + alpha / r * B A: its feature map is larger than its weights, so adding the weights is
    cheaper than a second path."""

    down: nn.Parameter
    up: nn.Parameter
    strength: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight + update(self.weight, self.down, self.up, self.strength), self.bias)


ADAPTED: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: LoRALinear, nn.Conv2d: LoRAConv2d}
WITH_ADAPTED = (Block, Bottleneck, AttentionPool, InvertedResidual, StandardisedHead, ClassPath)
PLAIN = {adapted: plain for plain, adapted in ADAPTED.items()}


def update(weight: Tensor, down: Tensor, up: Tensor, scaling: Tensor) -> Tensor:
    """The low-rank update of `weight`, in its shape: alpha / r * B A (section 4.1)."""
    return (scaling * (up @ down)).view(weight.shape)


def add(network: CLIP, rank: int, alpha: float) -> None:
    """Add adapters of rank r to both towers of `network` itself, and freeze everything else but the logit scale and
    bias, which do not affect embeddings.

    Adapted are the linear layers of attention and MLP in transformers, the convolutions of a ResNet's residual blocks,
    the 1x1 convolutions of an EfficientNet's, its head and class path (a depthwise kernel is no larger than its
    adapter), and attention pooling (except SigLIP's fused query, key and value, whose parts are used separately). A
    locked tower gets none. Batch norm is frozen with its statistics. `up` starts at zero, so the model is unchanged bit
    for bit. `weight` and `bias` keep their names in the state, which gains `down`, `up` and `strength` for each layer;
    to resume a run, call `add` and `load_state_dict`. Call it before the optimizer, a compiler or
    DistributedDataParallel get the network. Raises ArgumentError if there is nothing to adapt, or the network has
    adapters.
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
    """The layers that `add` adapts, in the network's order."""
    found: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, WITH_ADAPTED):
            found += [layer for layer in module.modules() if type(layer) in ADAPTED and not _is_depthwise(layer)]
        elif isinstance(module, MAPHead):
            found += [module.attention.out, module.mlp.fc, module.mlp.proj]
    return found  # type: ignore[return-value]


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups > 1


def _adapt(layer: nn.Linear | nn.Conv2d, rank: int, alpha: float) -> None:
    """Change the layer's class and add three tensors: references to the layer and names in its state stay valid."""
    weight = layer.weight
    fan_in = weight[0].numel()
    layer.__class__ = ADAPTED[type(layer)]  # type: ignore[assignment]
    layer.down = nn.Parameter(weight.new_empty(rank, fan_in).normal_(std=fan_in**-0.5))
    layer.up = nn.Parameter(weight.new_zeros(len(weight), rank))
    layer.register_buffer("strength", weight.new_tensor(alpha / rank))


def merge(network: CLIP) -> CLIP:
    """Merge the adapters into the weights of `network` itself and return it; without adapters it does not change. To
    continue training, merge a copy: `merge(copy.deepcopy(network))`."""
    state = merged_state(network.state_dict())
    for layer in network.modules():
        if type(layer) in PLAIN:
            layer.__class__ = PLAIN[type(layer)]
            for name in ADAPTER:
                delattr(layer, name)
    network.load_state_dict(state)
    return network


@torch.no_grad()
def merged_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with its adapters merged; `state` does not change."""
    merged = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in ADAPTER}
    for prefix in (name.removesuffix("down") for name in state if name.endswith(".down")):
        weight = state[prefix + "weight"]
        merged[prefix + "weight"] = weight + update(weight, *(state[prefix + name] for name in ADAPTER))
    return merged
