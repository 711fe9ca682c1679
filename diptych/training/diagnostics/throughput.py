"""Training throughput of a device, without waiting for data."""

import time
from dataclasses import replace

import torch

from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.training.objectives.contrastive import softmax_loss
from diptych.training.optim.precision import has_bfloat16


def training_throughput(
    model: str, size_px: int | None, device: torch.device, *, batch_size: int = 64, seconds: float = 5.0
) -> float:
    """Pictures per second in complete training steps (AdamW, one caption per picture) of a preset on random data."""
    config = preset(model)
    if size_px:
        config = replace(config, image=replace(config.image, image_size=size_px))
    network = CLIP(config).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    side = config.image.image_size
    pixels = torch.randn(batch_size, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    ids = torch.randint(1, config.text.vocab_size - 1, (batch_size, min(40, config.text.context)), device=device)
    ids[:, -1] = config.text.end_id if config.text.end_id is not None else config.text.vocab_size - 1

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            output = network(pixels, ids)
        loss = softmax_loss(output.image, output.text, output.scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()  # waits for the device

    for _ in range(2):
        step()
    started, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds:
        step()
        count += batch_size
    return count / passed
