"""Mixed precision: the dtypes to train in, and whether a device has bfloat16."""

import torch

from diptych.engines.bfloat16 import allows_bfloat16

AUTOCAST: dict[str | None, torch.dtype | None] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def has_bfloat16(device: torch.device) -> bool:
    """Whether to use bfloat16 on a device: it is native there, and not switched off."""
    return allows_bfloat16() and is_native(device)


def is_native(device: torch.device) -> bool:
    """Whether the device computes in bfloat16. Where it is emulated it is slower than float32: 26 instead of 100
    GFLOP/s on an older server."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":  # by x86's names and ARM's
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))
    return False
