"""diptych generate"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.actions import ActionCommand
from diptych.cli.exit_codes import OK
from diptych.cli.options import json_option, print_json, stages, truncate_option, write_picture
from diptych.cli.terminal import print_result
from diptych.storage.atomic import atomic_write

if TYPE_CHECKING:
    from diptych.generation.generator import Generator
    from diptych.generation.openvino.pipeline import Drawn
    from diptych.generation.steps import Sampler

# Action -> module that has its `command`
ACTIONS = {"train": "diptych.cli.generate_train"}
_STRIP_STEPS = 8
_NAME_LENGTH = 60


class _GenerateCommand(ActionCommand):
    """`diptych generate PROMPT`, or `diptych generate train`."""

    ACTIONS = ACTIONS


@click.command("generate", cls=_GenerateCommand)
@click.argument("prompt")
@click.option("--count", default=4, show_default=True, type=click.IntRange(1, 1024), help="How many pictures.")
@click.option(
    "--guidance",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="How much the words are followed; up to 1 without classifier-free guidance.",
)
@click.option("--steps", default=30, show_default=True, type=click.IntRange(1, 1000), help="From noise to picture.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**32),
    help="Of the first picture; then one more for each.",
)
@click.option("--negative", default="", metavar="WORDS", help="What to keep away from.")
@click.option(
    "--sampler", default="dpm", show_default=True, type=click.Choice(["dpm", "ddim"]), help="How the steps are taken."
)
@click.option(
    "--rerank",
    metavar="N",
    type=click.IntRange(1, 1024),
    help="Draw N pictures and keep the --count of them that fit the words best by CLIP score.",
)
@click.option("--model", help="The CLIP that --rerank scores with; by default the bundled one.")
@click.option(
    "--generator",
    metavar="FOLDER",
    type=click.Path(),
    help="A generator that `diptych generate train` made; by default the bundled one.",
)
@click.option(
    "--out",
    metavar="FOLDER",
    default=".",
    show_default="the current one",
    type=click.Path(file_okay=False),
    help="Where the pictures go.",
)
@click.option(
    "--enlarge",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Write each pixel as a square of so many.",
)
@click.option("--grid", metavar="PNG", type=click.Path(dir_okay=False), help="Write all pictures as one.")
@click.option("--strip", metavar="PNG", type=click.Path(dir_okay=False), help="Write how each came out of the noise.")
@truncate_option
@json_option
def command(
    prompt: str, count: int, guidance: float, steps: int, seed: int, negative: str, sampler: Sampler,
    rerank: int | None, model: str | None, generator: str | None, out: str, enlarge: int, grid: str | None,
    strip: str | None, truncate: bool, as_json: bool,
) -> int:  # fmt: skip
    """Draw pictures of PROMPT. The bundled generator draws plain scenes of one or two coloured shapes.

    \b
    diptych generate "a large red circle above a small blue star" --seed 7
    diptych generate "a green heart" --count 8 --grid all.png --strip noise.png
    diptych generate "a yellow star" --rerank 16 --count 1 --out stars
    diptych generate train --out runs/scenes      train one on your own pairs
    """
    from diptych.generation.generator import best_of, open_generator

    if rerank is not None and rerank < count:
        raise click.UsageError(f"--rerank {rerank} draws fewer pictures than --count {count} keeps.")
    if model and rerank is None:
        raise click.UsageError("--model is for --rerank; add it, or leave --model out.")
    opened = open_generator(generator)
    with stages("drawing") as (advance,):
        drawn = opened.draw(
            prompt, count=rerank or count, guidance=guidance, steps=steps, seed=seed, negative=negative,
            sampler=sampler, truncate=truncate, shown=_STRIP_STEPS if strip else 0, on_step=advance,
        )  # fmt: skip
    numbers, scores = list(range(len(drawn.pictures))), None
    if rerank is not None:
        drawn, numbers, scores = best_of(drawn, prompt, count, _scorer(model))
    seeds = [seed + number for number in numbers]
    paths = _write(drawn, prompt, seeds, Path(out), enlarge)
    _write_sheets(drawn, prompt, seeds, steps, grid, strip)
    if as_json:
        print_json(_json(opened, paths, seeds, scores, prompt, guidance, steps))
    else:
        for path in paths:
            print_result(str(path), fold=False)
    return OK


def _scorer(model: str | None) -> Any:
    from diptych.cli.options import open_model

    return open_model(model, None, None)


def _write(drawn: Drawn, prompt: str, seeds: list[int], out: Path, enlarge: int) -> list[Path]:
    from diptych.generation.sheets import enlarged

    out.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:_NAME_LENGTH].strip("-") or "picture"
    paths = [out / f"{name}-{seed}.png" for seed in seeds]
    for path, image in zip(paths, drawn.images(), strict=True):
        with atomic_write(path) as part:
            enlarged(image, enlarge).save(part, "PNG")
    return paths


def _write_sheets(drawn: Drawn, prompt: str, seeds: list[int], steps: int, grid: str | None, strip: str | None) -> None:
    from diptych.generation import sheets

    names = [f"seed {seed}" for seed in seeds]
    if grid:
        write_picture(grid, sheets.grid(drawn, names, title=prompt).save)
    if strip:
        write_picture(strip, sheets.strip(drawn, names, steps).save)


def _json(
    opened: Generator, paths: list[Path], seeds: list[int], scores: list[float] | None, prompt: str, guidance: float,
    steps: int,
) -> dict[str, Any]:  # fmt: skip
    pictures: list[dict[str, Any]] = [
        {"path": str(path), "seed": seed} for path, seed in zip(paths, seeds, strict=True)
    ]
    for picture, score in zip(pictures, scores or [], strict=False):
        picture["score"] = score
    return {
        "prompt": prompt, "generator": opened.source, "size_px": opened.size_px, "guidance": guidance, "steps": steps,
        "pictures": pictures,
    }  # fmt: skip
