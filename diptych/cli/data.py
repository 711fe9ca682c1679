"""diptych data"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import OK, PARTLY
from diptych.cli.names import quoted
from diptych.cli.options import json_option, outside_option, print_json, print_status, progress, write_picture
from diptych.cli.terminal import print_result
from diptych.cli.wording import message_of
from diptych.errors import DataError

if TYPE_CHECKING:
    from diptych.data.inspection import Inspection, Quantiles, Speed
    from diptych.data.samples import Source, Stream

MAX_LISTED = 5  # examples of duplicates and failures


@click.group("data")
def command() -> None:
    """Inspect training data. Each command accepts --json; --help lists its options.

    \b
    diptych data inspect pairs/train
    """


@command.command("inspect")
@click.argument("source")
@click.option("--image-column", help="A table's column of pictures, if its name is unusual.")
@click.option("--caption-column", help="A table's column of captions, if its name is unusual.")
@outside_option
@click.option(
    "--limit", default=10_000, show_default=True, type=click.IntRange(min=1), help="Number of samples to read."
)
@click.option("--sheet", metavar="PNG", help="Save some pictures with their captions as one picture.")
@click.option("--plot", metavar="PNG", help="Plot the lengths of captions and the sizes of pictures.")
@click.option(
    "--image-size", type=click.IntRange(min=1), help="Picture size in training, in px. [default: the model's]"
)
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1), help="Number of decoding threads.")
@click.option(
    "--workers",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Number of decoding processes, instead of threads.",
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Samples per second that the device trains, if known. "
    "By default it is measured, with --model on --device.",
)  # fmt: skip
@click.option("--model", default="resnet-small", show_default=True, help="The architecture to train.")
@click.option("--device", help="cuda, mps or cpu; by default the first of these that is available.")
@json_option
def inspect_command(
    source: str, image_column: str | None, caption_column: str | None, allow_outside: bool, limit: int,
    sheet: str | None, plot: str | None, as_json: bool, **speed: Any,
) -> int:  # fmt: skip
    """Report the contents of SOURCE, its broken and duplicate samples, and whether reading is fast enough for training.

    SOURCE is a source of `diptych train --data`: a folder, shards, a table, an address, hf://OWNER/NAME.

    \b
    diptych data inspect pairs/train --sheet sheet.png --image-size 96
    """
    from diptych.data.inspection import inspect_source
    from diptych.data.sources.opening import open_source
    from diptych.extras import require

    if plot:
        require("drawing", "matplotlib")
    if speed["rate"] is None:
        require("measuring the rate of training", "torch")
    opened = open_source(source, image_column=image_column, caption_column=caption_column, allow_outside=allow_outside)
    print_status(f"{source}: {opened.form}")
    with progress("reading samples") as advance:
        found = inspect_source(opened, source, limit=limit, threads=speed["threads"], progress=advance)
    rates = _speed(opened, **speed)
    if as_json:
        print_json(_as_json(found, rates))
    else:
        for line in _report(found, rates):
            print_result(line, fold=False)
    _write(found, sheet, plot)
    return PARTLY if found.broken or isinstance(rates, str) else OK


def _speed(
    source: Source | Stream, image_size: int | None, threads: int, workers: int, rate: float | None, model: str,
    device: str | None,
) -> Speed | str:  # fmt: skip
    """The reading speed; if too many samples are broken to measure it, the reason."""
    from diptych.data.inspection import Speed, loader_rate
    from diptych.nets.presets import preset

    size_px = image_size or preset(model).image.image_size
    try:
        with progress("measuring the loader"):
            loader = loader_rate(source, size_px, threads=threads, workers=workers)
    except DataError as error:
        return message_of(error)
    shared = False
    if rate is None:
        from diptych.engines.pytorch import choose_device, describe_device
        from diptych.training.diagnostics.throughput import training_throughput

        chosen = choose_device(device)
        with progress(f"training {model} on synthetic data"):
            rate = training_throughput(model, size_px, chosen)
        shared = chosen.type == "cpu"
        name = describe_device(chosen)
        print_status(f"{model} at {size_px} px trains {rate:.0f} samples/s on {name} without waiting for data")
    return Speed(loader, rate, size_px, threads, workers, shared)


def _report(found: Inspection, speed: Speed | str) -> list[str]:
    """The lines of the report, with some examples of broken and duplicate samples."""
    total = "an unknown number of" if found.total is None else f"{found.total:,}"
    looked = "" if found.looked == found.total else f", {found.looked:,} read"
    kibibytes = found.file_bytes._make(value / 1024 for value in found.file_bytes)
    rows: list[tuple[str, str, Sequence[str | list[str]]]] = [
        ("read as", found.form, ()),
        *([("captions!", found.flaw, ())] if found.flaw else []),
        ("samples", f"{total}{looked}, {found.usable:,} usable", ()),
        ("left out", _counts(found.skipped) or "none", ()),
        ("broken", f"{len(found.broken):,}" if found.broken else "none", _broken(found)),
        ("pictures", f"{_counts(found.formats)}; short side {_quantiles(found.short_side_px, ' px')}", ()),
        ("files", _quantiles(kibibytes, " KiB"), ()),
        ("captions", f"{len(found.word_counts):,}; to a picture {_quantiles(found.captions_per_picture, '')}", ()),
        ("", f"{_quantiles(found.words, ' words')}; {_quantiles(found.characters, ' characters')}", ()),
        ("same file", _groups(found.same_pictures), found.same_pictures),
        ("nearly same", _groups(found.near_pictures), found.near_pictures),
        ("same caption", f"{len(found.same_captions):,} captions of two pictures or more", _repeats(found)),
        *zip(("speed", ""), _speed_lines(speed), ((), ()), strict=False),
    ]
    return [
        line
        for name, text, examples in rows
        for line in (f"{name:13} {text}", *(f"{'':15}{_line(example)}" for example in examples[:MAX_LISTED]))
    ]


def _speed_lines(speed: Speed | str) -> list[str]:
    if isinstance(speed, str):
        return [f"not measured ({speed})"]
    how = f"{speed.workers} workers" if speed.workers else f"{speed.threads} threads"
    rates = f"{speed.loader:,.0f} samples/s read at {speed.size_px} px with {how}, {speed.device:,.0f} trained"
    return [rates, speed.verdict]


def _line(detail: str | list[str]) -> str:
    if isinstance(detail, str):
        return detail
    return " = ".join(map(quoted, detail[:3])) + (f" and {len(detail) - 3} more" if len(detail) > 3 else "")


def _broken(found: Inspection) -> list[str]:
    return [bad.message for bad in found.broken.values()]


def _repeats(found: Inspection) -> list[str]:
    from diptych.display.plots import shortened

    return [f"{count:,} x {shortened(caption)}" for caption, count in found.same_captions]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def _groups(groups: list[list[str]]) -> str:
    return f"{len(groups):,} x, {sum(map(len, groups)):,} pictures in all" if groups else "none"


def _quantiles(numbers: Quantiles, unit: str) -> str:
    if numbers.least == numbers.most:
        return f"{numbers.median:,.0f}{unit}"
    least, median, p95, most = (f"{value:,.0f}" for value in numbers)
    return f"{least} to {most}{unit}, half up to {median}, 95 % up to {p95}"


def _as_json(found: Inspection, speed: Speed | str) -> dict[str, Any]:
    lists = ("sheet", "word_counts", "short_sides_px", "broken", "layout")
    plain = {name: value for name, value in vars(found).items() if name not in lists}
    plain = {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in plain.items()}
    captions = len(found.word_counts)
    if isinstance(speed, str):
        rates: dict[str, Any] = {"speed": None, "speed_reason": speed}
    else:
        measured = speed._asdict() | {"times": speed.times, "verdict": speed.verdict}
        rates = {"speed": measured, "speed_reason": None}
    layout = {name: value for name, value in vars(found.layout).items() if name != "unusual"} | {
        "columns": found.layout.columns and dict(zip(("picture", "captions"), found.layout.columns, strict=True))
    }
    failures = {key: bad.message for key, bad in found.broken.items()}
    return plain | {"layout": layout, "usable": found.usable, "captions": captions, "failures": failures} | rates


def _write(found: Inspection, sheet: str | None, plot: str | None) -> None:
    from diptych.display.plots import contact_sheet, histogram_figure

    if sheet:
        write_picture(sheet, contact_sheet(found.sheet, lines=4).save)
    if plot:
        series = {"words in a caption": found.word_counts, "short side of a picture, px": found.short_sides_px}
        write_picture(plot, histogram_figure(series).savefig)
