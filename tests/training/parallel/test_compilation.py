"""Compiled towers are the same towers, and are compiled a few times only."""

import copy
import dataclasses

import pytest
import torch
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.training.parallel.compilation import compile_towers
from diptych.training.setup import set_dropout


@pytest.fixture
def compiler() -> CompileCounterWithBackend:
    """Traces and differentiates as the real one does, and runs the trace eagerly, so that no C++ compiler is needed."""
    torch._dynamo.reset()
    return CompileCounterWithBackend("aot_eager")


def deep(layers: int) -> CLIP:
    config = preset("vit-tiny")
    image, text = (dataclasses.replace(tower, layers=layers) for tower in (config.image, config.text))
    torch.manual_seed(0)
    return CLIP(dataclasses.replace(config, image=image, text=text)).train()


def step(network: CLIP, tokens: int) -> list[torch.Tensor]:
    """Gradients of one step on texts of this many tokens."""
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.randint(1, 1000, (4, tokens), generator=generator)
    ids[:, -1] = network.config.text.end_id
    network.zero_grad()
    output = network(torch.randn(4, 3, 32, 32, generator=generator), ids)
    (output.image @ output.text.T).square().sum().backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_the_network_as_it_was(compiler: CompileCounterWithBackend, checkpointing: bool) -> None:
    plain = deep(2)
    compiled = copy.deepcopy(plain)
    compiled.set_gradient_checkpointing(checkpointing)
    compile_towers(compiled, backend=compiler)
    for tokens in (7, 12):
        for ours, expected in zip(step(compiled, tokens), step(plain, tokens), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    assert compiler.frame_count
    assert compiled.state_dict().keys() == plain.state_dict().keys()


def test_the_wait_does_not_grow_with_depth_or_the_lengths_of_texts() -> None:
    """PyTorch gives up after eight compilations of one function: neither each block's own share of dropped branches
    nor each length may cost one."""
    torch._dynamo.reset()
    counter = CompileCounter()
    network = deep(10)
    set_dropout(network, 0.1, 0.1)
    compile_towers(network, backend=counter)
    for tokens in (5, 9, 12, 20, 31):
        step(network, tokens)
    assert 0 < counter.frame_count <= 8
