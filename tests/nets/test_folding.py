"""A folded tower computes what the tower computes, and shares what it does not fold."""

import pytest
import torch

from diptych.nets.clip import CLIP
from diptych.nets.folding import folded, has_batch_norm
from diptych.nets.presets import preset


def tower(name: str) -> torch.nn.Module:
    """No statistic and no gain where it starts."""
    torch.manual_seed(0)
    made = CLIP(preset(name)).image.eval()
    for tensor in made.state_dict().values():
        if tensor.ndim == 1 and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return made


@pytest.mark.parametrize("name", ["resnet-tiny", "efficientnet-tiny"])
@torch.no_grad()
def test_a_folded_tower_has_no_batch_norm_and_the_same_vectors(name: str) -> None:
    whole = tower(name)
    before = {key: tensor.clone() for key, tensor in whole.state_dict().items()}
    made = folded(whole)
    assert has_batch_norm(whole)
    assert not has_batch_norm(made)
    pixels = torch.randn(2, 3, 64, 64)
    for ours, theirs in zip(made.with_patches(pixels), whole.with_patches(pixels), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    assert all(torch.equal(tensor, before[key]) for key, tensor in whole.state_dict().items())
    assert made.pool.positions is whole.pool.positions


def test_a_transformer_has_nothing_to_fold() -> None:
    assert not has_batch_norm(CLIP(preset("vit-tiny")).image)
