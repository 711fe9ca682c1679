"""Recall after training on the same pairs, with as many parameters, for the same time, on the same machine.

    python bench/learning.py --train pairs/train --val pairs/dev [--minutes 30] [--seeds 0,1] [--threads 2]

The peer is open_clip's training program (`pip install 'open_clip_torch[training]' torchvision`), called as
`open_clip_training.py` says; without it only Diptych runs. Its cosine schedule needs the number of steps in advance: a
short run of the same call measures its speed, and the pictures that fit are split into epochs. Its time is that of
these epochs, Diptych's that of the whole call with tokenizer and files. Recall is measured afterwards, in float32, for
both by one function.

Each run has its own process. Results are saved in OUT/results.jsonl, from which an interrupted benchmark continues.
Without --train and --val scenes are drawn. --quick trains only Diptych, a vit-tiny for a second, in this process.
"""

import argparse
import importlib.util
import io
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from table import Row, arguments, report, with_ratios

from diptych.data.sources.opening import open_source
from diptych.scenes.scene import write_shards
from diptych.scoring import metrics

QUESTION = "Recall on held-out pairs after training as long, on the same pairs, with as many parameters"
TRIAL_PICTURES = 2048
RECALLS = [f"{way} R@{k}" for way in ("text to image", "image to text") for k in (1, 5, 10)]

Result = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run. A `tiny` one is a test of a few seconds."""

    train: str
    val: str
    minutes: float
    seed: int
    threads: int
    tiny: bool


def main() -> None:
    """Train both in turns, then report."""
    options = parsed()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        train, val = (options.train, options.val) if options.train else drawn(Path(scratch), options.quick)
        out = Path(scratch if options.quick else options.out)
        minutes, seeds = (1 / 60, options.seeds[:1]) if options.quick else (options.minutes, options.seeds)
        jobs = [Job(train, val, minutes, seed, options.threads, options.quick) for seed in seeds]
        pairs = [both(job, out) for job in jobs]
    name = f"{QUESTION}: {60 * minutes:.3g} s{' of a vit-tiny' if options.quick else ''}"
    report(name, rows([list(runs) for runs in zip(*pairs, strict=True)]), as_json=options.as_json)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = arguments(QUESTION)
    parser.add_argument("--train", help="pairs, as `diptych train --data` takes them")
    parser.add_argument("--val", help="held-out pairs")
    parser.add_argument("--minutes", type=float, default=30, help="of training for each run")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", default="runs/learning", help="the folder of results")
    options = parser.parse_args()
    if (options.train is None) != (options.val is None):
        parser.error("--train and --val go together.")
    return options


def drawn(folder: Path, tiny: bool) -> tuple[str, str]:
    """Shards of drawn scenes, to train on and held out."""
    for name, seed, count in (("train", 0, 128 if tiny else 4000), ("val", 1, 32 if tiny else 1000)):
        write_shards(folder / name, count, seed=seed, size_px=64)
    return str(folder / "train"), str(folder / "val")


def both(job: Job, out: Path) -> list[Result]:
    """Diptych and, if installed, the peer. Diptych is first, because the peer takes its size."""
    ours = kept(out, "diptych", job, train_diptych)
    if job.tiny or importlib.util.find_spec("open_clip_train") is None:
        return [ours]
    return [kept(out, "open_clip", job, train_open_clip, ours["towers"], ours["parameters"]), ours]


def kept(out: Path, who: str, job: Job, run: Callable[..., Result], *more: Any) -> Result:
    """A result from OUT/results.jsonl, or of a new run, which is written there."""
    job_row, path = {"who": who, **asdict(job)}, out / "results.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        if job_row.items() <= (found := json.loads(line)).items():
            return found
    print(f"{who}, seed {job.seed}, {job.minutes:.3g} minutes ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        result = {**job_row, **(run if job.tiny else in_new_process(run))(job, Path(scratch), *more)}
    out.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        print(json.dumps(result), file=file)
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def in_new_process(run: Callable[..., Result]) -> Callable[..., Result]:
    """`run` in a new process."""

    def started(*given: Any) -> Result:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            return process.submit(run, *given).result()

    return started


def train_diptych(job: Job, scratch: Path) -> Result:
    """One run of the recipe."""
    import torch

    import diptych

    torch.set_num_threads(job.threads)
    started_s = time.monotonic()
    config = laptop(job, scratch / "run")
    folder = diptych.train(config, quiet=job.tiny).folder
    seconds = time.monotonic() - started_s
    model = diptych.load(str(folder), device="cpu")
    lines = [json.loads(line) for line in (folder.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "parameters": sum(weight.numel() for weight in model.network.parameters()), "seconds": seconds,
        "pictures/s": lines[-1]["step"] * config.batch_size / seconds,
        "towers": asdict(model.network.config),
        **recall(model.embed_images, lambda texts: model.embed_texts(texts, truncate=True), job.val),
    }  # fmt: skip


def laptop(job: Job, out: Path) -> Any:
    """The laptop recipe."""
    import diptych

    config = diptych.recipe(
        "laptop", data=(job.train,), out=str(out), minutes=job.minutes, seed=job.seed, threads=job.threads
    )
    return replace(config, batch_size=32, model="vit-tiny", image_size=32) if job.tiny else config


def train_open_clip(job: Job, scratch: Path, towers: Result, parameters: int) -> Result:
    """One run of the peer: two short epochs, the second to measure its speed, then as many as fit into the time."""
    import open_clip_training
    import torch

    torch.set_num_threads(job.threads)
    multiprocessing.set_start_method("fork", force=True)  # the program relies on fork: its pipeline cannot be pickled
    peer = open_clip_training.Peer(open_source(job.train), towers, parameters, scratch)
    flags, batch_size = (f"--seed={job.seed}", "--torchcompile"), 128
    few = min(TRIAL_PICTURES, peer.count)
    trial = peer.train("trial", *flags, epochs=2, pictures=few, batch_size=batch_size)
    fit = 60 * job.minutes * trial.pictures / 2 / trial.seconds[1]
    epochs = max(1, round(fit / peer.count))
    trained = peer.train("whole", *flags, epochs=epochs, pictures=math.ceil(fit / epochs), batch_size=batch_size)
    seconds = sum(trained.seconds)
    return {
        "parameters": peer.parameters, "seconds": seconds, "pictures/s": trained.pictures / seconds,
        "command": trained.command, **recall(*peer.encoders(trained.weights), job.val),
    }  # fmt: skip


def recall(encode_images: Callable, encode_texts: Callable, val: str) -> Result:
    """Recall in percent of two functions that map pictures and texts to unit vectors."""
    source = open_source(val)
    samples = [source[index] for index in range(len(source))]
    pictures = [s.image if isinstance(s.image, Image.Image) else Image.open(io.BytesIO(s.image)) for s in samples]
    owners = np.repeat(np.arange(len(samples)), [len(sample.captions) for sample in samples])
    texts = encode_texts([caption for sample in samples for caption in sample.captions])
    found = metrics.retrieval(encode_images(pictures), texts, owners)
    return dict(zip(RECALLS, (*found.text_to_image, *found.image_to_text), strict=True))


def rows(sides: list[list[Result]]) -> list[Row]:
    """Each measure's mean over the seeds, and text-to-image recall@10 for each seed."""

    def beside(unit: str, seeds: str, chosen: slice) -> list[Row]:
        values = [(side[0]["who"], statistics.mean(run[unit] for run in side[chosen])) for side in sides]
        made = [Row(f"{who}, {seeds}", value, unit) for who, value in values]
        return with_ratios(made) if len(made) > 1 else made

    made = [
        row for unit in (*RECALLS, "parameters", "seconds", "pictures/s") for row in beside(unit, "mean", slice(None))
    ]
    each = [row for i, run in enumerate(sides[0]) for row in beside(RECALLS[2], f"seed {run['seed']}", slice(i, i + 1))]
    return made + each


if __name__ == "__main__":
    main()
