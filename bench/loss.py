"""Time and memory of the losses in tiles, compared with the whole matrix at once.

    python bench/loss.py [--batch 16384] [--width 512] [--device cuda] [--quick] [--json]

Value and gradients of one batch, each implementation in its own process: CPU seconds (less affected by other
processes), wall-clock seconds, and peak memory above that of the features (on CPUs as reported by Linux). Peers are the
plain computation with PyTorch's functions, and open_clip's losses if it is installed. Ratios are relative to the plain
one. --quick takes 256 pairs and one process.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from table import Row, arguments, report
from torch import Tensor

from diptych.training.objectives.contrastive import sigmoid_loss, softmax_loss

QUESTION = "Value and gradients of the loss of one batch, by seconds and by memory"
TILES = (64, 128, 256, 512, 1024, 4096)


def plain_softmax(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """As in the paper's figure 3."""
    logits, target = scale * image @ text.T, torch.arange(len(image), device=image.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def plain_sigmoid(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """As in the paper's algorithm 1."""
    signs = 2 * torch.eye(len(image), device=image.device) - 1
    return -F.logsigmoid(signs * (scale * image @ text.T + bias)).sum() / len(image)


def open_clip_losses() -> dict[str, Callable[..., Tensor]]:
    """open_clip's losses, as its trainer calls them; empty if it is not installed."""
    try:
        import torchvision_operators  # noqa: F401 (torchvision has no CPU build: its operators are declared first)
        from open_clip.loss import ClipLoss, SigLipLoss
    except ImportError:
        return {}
    softmax, sigmoid = ClipLoss(), SigLipLoss()
    return {"softmax": lambda image, text, scale, bias: softmax(image, text, scale), "sigmoid": sigmoid}


def way(who: str, loss: str) -> Callable[..., Tensor]:
    """The function to measure: "plain", "open_clip", "tiled" or "tiled:256"."""
    if who == "plain":
        return {"softmax": plain_softmax, "sigmoid": plain_sigmoid}[loss]
    if who == "open_clip":
        return open_clip_losses()[loss]
    tile = int(who.partition(":")[2] or 0) or None
    if loss == "softmax":
        return lambda image, text, scale, bias: softmax_loss(image, text, scale, tile=tile)
    return lambda image, text, scale, bias: sigmoid_loss(image, text, scale, bias, tile=tile)


def features(batch: int, width: int, device: str) -> list[Tensor]:
    """Correlated pairs of unit vectors, with a scale and a bias."""
    rng = torch.Generator().manual_seed(0)
    image, noise = (F.normalize(torch.randn(batch, width, generator=rng), dim=1) for _ in range(2))
    text = F.normalize(image + 3 * noise, dim=1)
    return [x.to(device).requires_grad_() for x in (image, text, torch.tensor(50.0), torch.tensor(-10.0))]


def forget_peak(device: str) -> None:
    """Reset the peak."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb(device: str) -> float:
    """The peak memory since the reset."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def measure(who: str, loss: str, batch: int, width: int, device: str) -> tuple[float, float, float]:
    """CPU seconds, wall-clock seconds and MB, after a small batch as a warm-up."""
    function = way(who, loss)
    function(*features(256, width, device)).backward()
    inputs = features(batch, width, device)
    forget_peak(device)
    before_mb, clock_s, cpu_s = peak_mb(device), time.perf_counter(), time.process_time()
    function(*inputs).backward()
    float(inputs[2].grad)  # type: ignore[arg-type]  # on a GPU: wait
    return time.process_time() - cpu_s, time.perf_counter() - clock_s, peak_mb(device) - before_mb


def in_new_process(who: str, loss: str, batch: int, width: int, device: str) -> list[float]:
    """`measure` in a new process."""
    command = [sys.executable, __file__, "--measure", who, loss, "--batch", str(batch)]
    command += ["--width", str(width), "--device", device]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [float(value) for value in output.split()]


def main() -> None:
    """Measure each implementation, the plain one first."""
    parser = arguments(QUESTION)
    parser.add_argument("--batch", type=int, default=16384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--measure", nargs=2, metavar=("WHO", "LOSS"), help="one implementation, in this process")
    options = parser.parse_args()
    batch = min(options.batch, 256) if options.quick else options.batch
    if options.measure:
        print(*measure(*options.measure, batch, options.width, options.device))
        return
    rows: list[Row] = []
    peer = ["open_clip"] if open_clip_losses() else []
    for loss, tiles in (("softmax", () if options.quick else TILES), ("sigmoid", ())):
        first: list[float] = []
        for who in ("plain", *peer, "tiled", *(f"tiled:{tile}" for tile in tiles)):
            values = list(
                (measure if options.quick else in_new_process)(who, loss, batch, options.width, options.device)
            )
            first = first or values
            for value, peers, unit in zip(values, first, ("processor s", "clock s", "MB"), strict=True):
                rows.append(
                    Row(f"{loss} {batch} x {options.width}, {who}", value, unit, value / peers if peers else None)
                )
    report(QUESTION, rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
