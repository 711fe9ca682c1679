"""The first and the last lines that a run logs."""

from collections.abc import Sequence

import torch
from torch import nn

from diptych.data.loading.loader import shares
from diptych.data.samples import Source, Stream, spell_counts
from diptych.engines.pytorch import describe_device
from diptych.media.preprocessing import Preprocess
from diptych.training.config import TrainConfig
from diptych.training.optim.precision import is_native
from diptych.training.parallel.distributed import ProcessInfo
from diptych.training.state import RunProgress

LORA_LR = 1e-4  # the lowest useful learning rate of adapters


def first_lines(
    config: TrainConfig, sources: Sequence[Source | Stream], network: nn.Module, preprocess: Preprocess,
    device: torch.device, process: ProcessInfo,
) -> list[str]:  # fmt: skip
    """The model, the data, and the samples that were left out."""
    counts = shares(list(sources), config.weights, config.samples_per_epoch)
    processes = f" x {process.world_size} processes" if process.world_size > 1 else ""
    lines = [
        f"{sum(counts):,} pictures · {config.init or config.model}, "
        f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}M parameters, {preprocess.size_px} px · "
        f"{describe_device(device)}{processes}, {config.precision} · {config.batch_size} pictures a step"
    ]
    if config.precision == "bf16" and device.type == "cpu" and not is_native(device):
        lines.append("this CPU has no bf16: it is emulated in float32, which is slow")
    if config.shard and process.world_size == 1:
        lines.append("shard has no effect in one process; start several with torchrun")
    if config.lock_text and config.shard and process.world_size > 1:
        lines.append("the weights are sharded: the locked text tower encodes every caption each time")
    if config.lora and config.lr < LORA_LR:
        lines.append(f"lr {config.lr:g} is low for adapters, which need about ten times the usual (--recipe lora)")
    for spec, source in zip(config.data, sources, strict=True):
        lines.append(f"{spec}: {source.form}")
        if source.skipped:
            lines.append(f"{spec}: {spell_counts(source.skipped)} left out")
    return lines


def last_lines(progress: RunProgress, folder: object, skipped: str, context: int) -> list[str]:
    """Steps and loss, the folder, skipped samples (`skipped` are their reasons) and truncated captions."""
    loss = f", loss {progress.loss:.3f}" if progress.steps else ""
    lines = [f"{progress.steps} steps{loss} · saved {folder}"]
    if skipped:
        lines.append(f"skipped samples: {skipped}")
    if progress.cut:
        lines.append(f"{progress.cut:,} captions were longer than {context} tokens and were cut")
    return lines
