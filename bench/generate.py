"""How fast are pictures drawn from words on a CPU, by ours and by plain diffusers, of one generator's folder?

    python bench/generate.py [--generator FOLDER] [--count 4] [--steps 30] [--rounds N] [--quick] [--json]

All rows draw as many pictures in as many DDIM steps with the same guidance in float32 on the same threads, in
interleaved rounds, so that a slow moment of the machine affects all. The peer is diffusers' StableDiffusionPipeline on
the same folder, as it is and with channels_last. The last row is the seconds of a command of its own, imports and
compiled graphs from the cache included. Without --generator the folder has random weights, which take as long.
"""

import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from table import Row, arguments, report, with_ratios

from diptych.checkpoint.formats.text_tower import TextTower
from diptych.generation.openvino.pipeline import read_pipeline

QUESTION = "Pictures a second from words on this CPU, guidance 4, DDIM, float32"
ROUNDS, GUIDANCE = 5, 4.0
PROMPT = "a large red circle above a small blue star"
Way = Callable[[], Any]
COMMAND = (
    "import sys; from diptych.generation.openvino.pipeline import read_pipeline; "
    "read_pipeline(sys.argv[1]).draw([sys.argv[2]] * int(sys.argv[3]), steps=int(sys.argv[4]))"
)


def random_generator(folder: Path, channels: tuple[int, ...]) -> Path:
    """A generator with random weights."""
    from diptych.generation.config import GenerateConfig
    from diptych.generation.denoiser import denoiser, scheduler
    from diptych.generation.folder import write_generator

    torch.manual_seed(0)
    config, words = GenerateConfig(channels=channels), random_words()
    return write_generator(folder, denoiser(config, words.config.width), scheduler(config), words)


def random_words() -> TextTower:
    """A small text tower with random weights."""
    from diptych.nets.config import TextConfig
    from diptych.nets.text import TextTransformer
    from diptych.text.cleaning import PLAIN
    from diptych.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.train([PROMPT, "a small green square"], vocab_size=600, context=40)
    assert tokenizer.end_id is not None
    config = TextConfig(
        context=40,
        vocab_size=tokenizer.vocab_size,
        width=128,
        layers=4,
        heads=2,
        mlp_width=512,
        end_id=tokenizer.end_id,
    )
    state = {f"text.{name}": tensor for name, tensor in TextTransformer(config, config.width).state_dict().items()}
    state["text.proj.weight"] = torch.eye(config.width)
    return TextTower(config, state, tokenizer.to_json(), PLAIN)


def diffusers_ways(folder: Path, count: int, steps: int) -> dict[str, Way]:
    """Plain diffusers; none if it is not installed."""
    if importlib.util.find_spec("diffusers") is None or importlib.util.find_spec("transformers") is None:
        return {}
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    plain = diffusers.StableDiffusionPipeline.from_pretrained(str(folder))
    plain.set_progress_bar_config(disable=True)
    other = diffusers.StableDiffusionPipeline.from_pretrained(str(folder))
    other.set_progress_bar_config(disable=True)
    other.unet.to(memory_format=torch.channels_last)

    def drawn(pipeline: Any) -> Way:
        return lambda: pipeline([PROMPT] * count, num_inference_steps=steps, guidance_scale=GUIDANCE)

    return {"diffusers": drawn(plain), "diffusers, channels_last": drawn(other)}


def ours(folder: Path, count: int, steps: int) -> Way:
    """Ours, with the graphs that are compiled at its first call."""
    pipeline = read_pipeline(folder)
    return lambda: pipeline.draw([PROMPT] * count, steps=steps, guidance=GUIDANCE, sampler="ddim")


def seconds_of_command(folder: Path, count: int, steps: int, rounds: int) -> float:
    """The median of a process that draws and ends."""
    command = [sys.executable, "-c", COMMAND, str(folder), PROMPT, str(count), str(steps)]
    taken = list[float]()
    for _ in range(rounds):
        started_s = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ)
        taken.append(time.perf_counter() - started_s)
    return statistics.median(taken)


def measured(ways: dict[str, Way], count: int, rounds: int) -> list[Row]:
    """Pictures a second of each, after one call that is not counted."""
    seconds: dict[str, list[float]] = {who: [] for who in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for who, way in ways.items():
            started_s = time.perf_counter()
            way()
            seconds[who].append(time.perf_counter() - started_s)
    return with_ratios([Row(who, count / statistics.median(s), "pictures/s") for who, s in seconds.items()])


def main() -> None:
    """Measure and print."""
    parser = arguments(QUESTION)
    parser.add_argument("--generator", help="a generator's folder")
    parser.add_argument("--count", type=int, default=4, help="pictures drawn together")
    parser.add_argument("--steps", type=int, default=30, help="from noise to picture")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of which the median counts")
    options = parser.parse_args()
    if options.quick:
        options.count, options.steps, options.rounds = 1, 2, 1
    with contextlib.ExitStack() as stack:
        made = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "generator"
        channels = (8, 16) if options.quick else (24, 48, 96, 128)
        folder = Path(options.generator) if options.generator else random_generator(made, channels)
        peers = {} if options.quick else diffusers_ways(folder, options.count, options.steps)
        rows = measured(peers | {"diptych": ours(folder, options.count, options.steps)}, options.count, options.rounds)
        took_s = seconds_of_command(folder, options.count, options.steps, options.rounds)
    rows.append(Row(f"diptych, a whole process, {options.count} pictures", took_s, "s"))
    size = json.dumps({"count": options.count, "steps": options.steps, "threads": torch.get_num_threads()})
    report(f"{QUESTION}; {size}", rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
