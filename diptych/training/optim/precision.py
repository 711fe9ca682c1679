"""In which numbers a device multiplies fastest."""

import torch

from diptych.engines.arithmetic import allows_bfloat16

AUTOCAST: dict[str | None, torch.dtype | None] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is to be chosen on a device: it has it, and it is not switched off."""
    return allows_bfloat16() and is_native(device)


def is_native(device: torch.device) -> bool:
    """Whether bfloat16 is the device's own. Where it is not it is worked out in float32 at a fraction of its speed:
    an older server's 100 GFLOP/s became 26."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":  # by x86's names and ARM's
        able = torch.cpu.get_capabilities()
        return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))
    return False
