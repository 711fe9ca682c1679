"""Pairs per second of a training step, and its share of the machine's rate of matrix products.

    python bench/training.py [--model vit-small --model resnet-small] [--batch 64] [--rounds 9] [--quick] [--json]

A step is forward, loss, backward, clipping and AdamW, on one machine, with float32 weights and bfloat16 arithmetic
(autocast) unless a row says otherwise; on a device without bfloat16 all compute in float32, and a row has the
speed of autocast. The peer is open_clip, if installed, at the same widths, depths, patch, context and vocabulary, with
the settings of its command line (--precision, --torchcompile) and, in separate rows, further settings that a user could
add by hand. All get the same pixels and captions in interleaved rounds; captions have the lengths of Flickr8k's, and
open_clip's tokenizer pads them to the context, as always. The first row is the fastest peer. Without --model the sizes
are small ones on a CPU and ViT-B/32 on a GPU.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from table import Row, arguments, report, with_ratios
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, ViTConfig
from diptych.nets.presets import preset
from diptych.training.objectives.contrastive import softmax_loss
from diptych.training.optim.precision import has_bfloat16
from diptych.training.parallel.compilation import compile_towers

QUESTION = "Training step, pairs a second"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# The number of Flickr8k's 30,000 training captions with 4, 5, ... tokens, in a vocabulary of 4,096.
LENGTHS = (7, 24, 132, 334, 840, 1730, 2251, 2549, 2928, 2979, 2923, 2646, 2387, 1998, 1646, 1159, 908, 717, 540, 389,
           233, 196, 138, 112, 69, 50, 33, 24, 14, 10, 8, 8, 6, 3, 3, 2, 4)  # fmt: skip
LR = 1e-4
BFLOAT16 = has_bfloat16(DEVICE)
FLAGS = ("amp_bf16", "bf16", "pure_bf16") if BFLOAT16 else ("fp32", "amp_bf16")

Step = Callable[["Batch"], Any]


class Batch(NamedTuple):
    """Normalised pixels (batch, 3, size, size), ids padded to the context, and the length of the longest text."""

    pixels: Tensor
    ids: Tensor
    longest: int


def make_batch(config: CLIPConfig, size: int, seed: int) -> Batch:
    """Noise, and texts of real lengths; their content does not affect the speed."""
    generator = torch.Generator().manual_seed(seed)
    size_px, text = config.image.image_size, config.text
    pixels = torch.randn(size, 3, size_px, size_px, generator=generator)
    lengths = 4 + torch.multinomial(torch.tensor(LENGTHS, dtype=torch.float), size, True, generator=generator)
    lengths = lengths.clamp(max=text.context)
    ids = torch.randint(1, text.vocab_size - 2, (size, text.context), generator=generator)
    positions = torch.arange(text.context)
    ids = ids.where(positions < lengths[:, None] - 1, 0).where(positions != lengths[:, None] - 1, text.vocab_size - 1)
    return Batch(pixels.to(DEVICE), ids.to(DEVICE), int(lengths.max()))


def autocast(enabled: bool = BFLOAT16) -> torch.autocast:
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=enabled)


def adamw(network: nn.Module, fused: bool | None) -> torch.optim.AdamW:
    """The optimizer of both: weight decay for matrices only."""
    groups = [
        {"params": [p for p in network.parameters() if (p.ndim >= 2) is matrices], "weight_decay": 0.2 * matrices}
        for matrices in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), eps=1e-6, fused=fused)


def ours(config: CLIPConfig, compiled: bool) -> tuple[Step, nn.Module]:
    """A step of `diptych train`."""
    network = CLIP(config).train().to(DEVICE).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = adamw(network, fused=True)
    if compiled:
        compile_towers(network)

    def step(batch: Batch) -> None:
        pixels = batch.pixels.contiguous(memory_format=torch.channels_last)
        with autocast():
            output = network(pixels, batch.ids[:, : batch.longest])  # the tokenizer pads to the longest text
        loss = softmax_loss(output.image, output.text, output.scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        network.clamp_logit_scale()

    return step, network


def theirs(config: CLIPConfig, *, precision: str, compiled: bool, by_hand: bool = False) -> tuple[Step, nn.Module]:
    """A step of open_clip_train 3.3.0 (main.py and train.py). `by_hand`: channels-last and the fused optimizer."""
    network = their_network(config, precision).train().to(DEVICE)
    if by_hand:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = adamw(network, fused=by_hand or None)
    from open_clip.loss import ClipLoss

    loss_of, forward = ClipLoss(cache_labels=True), torch.compile(network) if compiled else network
    dtype = torch.float32 if precision in ("amp_bf16", "fp32") else torch.bfloat16

    def step(batch: Batch) -> None:
        pixels = batch.pixels.to(dtype)
        if by_hand:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        with autocast(precision == "amp_bf16"):
            output = forward(pixels, batch.ids)
            loss = sum(loss_of(**output, output_dict=True).values())
        loss.backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            network.logit_scale.clamp_(0, 4.6052)  # type: ignore[operator]

    return step, network


def their_network(config: CLIPConfig, precision: str) -> nn.Module:
    """open_clip's model at the same sizes."""
    from open_clip.model import CLIP as OpenCLIP
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg, convert_weights_to_lp

    image, text = config.image, config.text
    if isinstance(image, ViTConfig):
        vision = CLIPVisionCfg(
            image.layers, image.width, image.width // image.heads, image.mlp_width / image.width, image.patch_size,
            image.image_size,
        )  # fmt: skip
    else:
        vision = CLIPVisionCfg(image.layers, image.width, image.width * 32 // image.heads, image_size=image.image_size)
    written = CLIPTextCfg(text.context, text.vocab_size, width=text.width, heads=text.heads, layers=text.layers)
    quick_gelu = text.activation == "quick_gelu"
    cast = torch.bfloat16 if precision == "bf16" else None  # its gains and biases stay float32
    network = OpenCLIP(config.embed_dim, vision, written, quick_gelu, cast_dtype=cast, output_dict=True)
    if cast:
        convert_weights_to_lp(network, dtype=cast)
    return network.to(torch.bfloat16) if precision == "pure_bf16" else network


def contestants(config: CLIPConfig, quick: bool) -> dict[str, Callable[[], tuple[Step, nn.Module]]]:
    """All steps by name, Diptych's last. --quick leaves out compilation, which takes minutes."""
    who: dict[str, Callable[[], tuple[Step, nn.Module]]] = {}
    if open_clip_is_here():
        for precision in FLAGS:
            compiling = not quick and (BFLOAT16 or precision == "fp32")
            for compiled in (False, True)[: 1 + compiling]:
                flags = f"open_clip --precision {precision}{' --torchcompile' if compiled else ''}"
                who[flags] = lambda p=precision, c=compiled: theirs(config, precision=p, compiled=c)
                if precision == FLAGS[0]:
                    hand = f"{flags}, channels-last and fused AdamW by hand"
                    who[hand] = lambda p=precision, c=compiled: theirs(config, precision=p, compiled=c, by_hand=True)
    who["diptych"] = lambda: ours(config, False)
    if not quick:
        who["diptych, compiled"] = lambda: ours(config, True)
    return who


def open_clip_is_here() -> bool:
    try:
        if DEVICE.type == "cpu":
            import torchvision_operators  # noqa: F401 (torchvision has no CPU build: its operators are declared first)
        import open_clip  # noqa: F401
    except ImportError:
        return False
    return True


def timed(step: Callable[[], Any]) -> float:
    """Seconds of one call, including the device's work."""
    started_s = time.perf_counter()
    step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started_s


def gemm_rate(size: int) -> float:
    """Operations per second of the fastest matrix product in the steps' precision."""
    size = size if DEVICE.type == "cpu" else 4 * size
    dtype = torch.bfloat16 if BFLOAT16 else torch.float32
    a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: a @ b) for _ in range(10))


def operations(step: Step, batch: Batch) -> int:
    """The multiply-adds of one step, in matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        step(batch)
    return counter.get_total_flops()


def measure(name: str, batch_size: int, rounds: int, quick: bool) -> list[Row]:
    """All steps at one size in interleaved rounds, so that a slow moment of the machine affects all; fastest peer
    first."""
    torch._dynamo.reset()  # after eight compilations of one function PyTorch runs it eagerly, which no peer may suffer
    config = preset(name)
    batches = [make_batch(config, batch_size, seed) for seed in range(3)]
    steps: dict[str, Step] = {}
    counted: dict[str, int] = {}
    parameters: dict[str, int] = {}
    first: dict[str, float] = {}
    for who, make in contestants(config, quick).items():
        torch.manual_seed(0)
        steps[who], network = make()
        parameters[who.partition(" --")[0].partition(",")[0]] = sum(p.numel() for p in network.parameters())
        first[who] = sum(timed(lambda who=who, batch=batch: steps[who](batch)) for batch in batches)
        if not who.endswith("compiled") and "--torchcompile" not in who:
            counted[who.partition(" --")[0]] = operations(steps[who], batches[0])
    seconds: dict[str, list[float]] = {who: [] for who in steps}
    rates: list[float] = []
    for turn in range(rounds):
        rates.append(gemm_rate(256 if quick else 2048))
        for who, step in steps.items():
            seconds[who].append(timed(lambda step=step, turn=turn: step(batches[turn % 3])))
    if len(set(parameters.values())) > 1:
        raise ValueError(f"{name} is not one size: {parameters}; the rows would compare two models.")
    rate = statistics.median(rates)
    medians = {who: statistics.median(each) for who, each in seconds.items()}
    order = sorted(steps, key=lambda who: (who.startswith("diptych"), medians[who]))
    title = f"{name}, {batch_size} pairs"
    rows = [Row(f"{title}: {who}", batch_size / medians[who], "pairs/s") for who in order]
    rows = with_ratios(rows) if "open_clip" in order[0] else rows
    for who in order:
        done = counted["diptych" if who.startswith("diptych") else "open_clip"]
        rows.append(Row(f"{title}: {who}", 100 * done / medians[who] / rate, "% of the GEMM rate"))
    rows += [Row(f"{title}: {who}", first[who], "s for the first steps") for who in order if "compile" in who]
    rows += [Row(f"{title}: {who}", count, "parameters") for who, count in parameters.items()]
    rows += [Row(f"{title}: {who}", count / batch_size / 1e9, "GFLOP a pair") for who, count in counted.items()]
    return [*rows, Row(f"{title}: {'bfloat16' if BFLOAT16 else 'float32'} product", rate / 1e9, "GFLOP/s")]


def main() -> None:
    """Measure each size."""
    parser = arguments(QUESTION)
    parser.add_argument("--model", action="append", help="a size of `diptych models`; may be repeated")
    parser.add_argument("--batch", type=int, help="pairs a step")
    parser.add_argument("--rounds", type=int, default=9, help="steps measured of each")
    options = parser.parse_args()
    on_gpu = DEVICE.type == "cuda"
    names = options.model or (["vit-tiny", "resnet-tiny"] if options.quick else ["vit-small", "resnet-small"])
    if on_gpu and not options.model:
        names = ["ViT-B/32"]
    batch_size = options.batch or (1024 if on_gpu else 8 if options.quick else 128)
    rows: list[Row] = []
    for name in names:
        rows += measure(name, batch_size, 1 if options.quick else options.rounds, options.quick)
    report(f"{QUESTION}, on {DEVICE}, {torch.get_num_threads()} threads", rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
