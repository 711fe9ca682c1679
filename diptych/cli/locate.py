"""diptych locate"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import NOTHING, OK
from diptych.cli.options import (
    model_options,
    open_model,
    print_json,
    print_status,
    stages,
    truncate_option,
    write_picture,
)
from diptych.cli.terminal import print_result
from diptych.engines import EngineName

if TYPE_CHECKING:
    from diptych.inference.heat_map import HeatMap

METHODS = ("patches", "windows")  # each by itself


@click.command("locate")
@click.argument("picture")
@click.argument("phrases", nargs=-1, required=True)
@click.option(
    "--method",
    type=click.Choice(["auto", *METHODS]),
    default="auto",
    show_default=True,
    help="One pass over the patches of the picture, or overlapping windows, which take tens of times as long; auto "
    "takes patches, and windows as well where no patch stands out.",
)
@click.option("--compare", is_flag=True, help="Show both methods.")
@click.option(
    "--plot", metavar="PNG", type=click.Path(dir_okay=False), help="Write the picture with the maps drawn over it."
)
@click.option("--boxes", default=1, show_default=True, type=click.IntRange(min=1), help="Boxes to print and draw.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, max_open=True),
    help="A lower threshold gives larger boxes; 0.5 by default.",
)
@click.option("--scales", metavar="1,0.5,...", help="Sides of the windows, as fractions of the picture's short side.")
@click.option(
    "--overlap", type=click.FloatRange(0, 1, max_open=True), help="Overlap of neighbouring windows; 0.6 by default."
)
@truncate_option
@model_options
def command(
    picture: str, phrases: tuple[str, ...], method: str, compare: bool, plot: str | None, boxes: int,
    threshold: float | None, scales: str | None, overlap: float | None, truncate: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Show where each of PHRASES is in PICTURE (a file or a URL): the box around the best region, in pixels from the
    left and the top, and its score.

    \b
    diptych locate cat.jpg "a fluffy cat" --plot where.png
    diptych locate street.jpg "a red car" "a bicycle" --compare --plot where.png
    """
    from diptych.inference.heat_map import heat_maps

    values = {"threshold": threshold, "overlap": overlap, "scales": _scales(scales)}
    if method != "windows" and not compare and (scales or overlap is not None):
        raise click.UsageError("--scales and --overlap apply to windows. Add --method windows or --compare.")
    options: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    embedder = open_model(model, device, activation, engine)
    maps: list[HeatMap] = []
    with stages("embedding windows") as (advance,):
        for each in METHODS if compare else (method,):
            options["progress"] = advance
            maps += heat_maps(embedder, picture, phrases, method=each, truncate=truncate, **options)  # type: ignore[arg-type]
    if as_json:
        print_json({"picture": picture, "size": maps[0].image.size, "found": [_json(each, boxes) for each in maps]})
    else:
        for each in maps:
            for box in each.boxes[:boxes]:
                x, y, width, height = (round(value) for value in (*box[:2], max(1.0, box.width), max(1.0, box.height)))
                which = f"  ({each.method})" if compare else ""
                print_result(f"{box.score:.3f}  x {x}  y {y}  width {width}  height {height}  {each.phrase}{which}")
    if plot:
        write_picture(plot, _drawn(maps, boxes).save)
    missing = [each.phrase for each in maps if not each.boxes]
    for phrase in missing:
        print_status(f"{phrase!r}: no part of the picture exceeds the threshold")
    return NOTHING if len(missing) == len(maps) else OK


def _scales(scales: str | None) -> tuple[float, ...] | None:
    if scales is None:
        return None
    try:
        return tuple(float(part) for part in scales.split(","))
    except ValueError:
        raise click.UsageError(f"--scales is {scales!r}; expected numbers separated by commas: 1,0.5,0.25.") from None


def _json(found: HeatMap, boxes: int) -> dict[str, Any]:
    listed = [{"box_xywh_px": list(box[:4]), "score": box.score} for box in found.boxes[:boxes]]
    best = float(found.scores.max())
    return {"phrase": found.phrase, "method": found.method, "best": best, "boxes": listed}


def _drawn(maps: list[HeatMap], boxes: int) -> Any:
    """One overlay, or a sheet of overlays with captions."""
    if len(maps) == 1:
        return maps[0].overlay(boxes=boxes)
    from diptych.display.plots import contact_sheet

    tiles = [(each.overlay(boxes=boxes), f"{each.phrase} ({each.method})") for each in maps]
    return contact_sheet(tiles, columns=min(4, len(tiles)), size_px=320)
