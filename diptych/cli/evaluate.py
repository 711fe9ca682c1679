"""diptych evaluate"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import FAILED, OK, PARTLY
from diptych.cli.options import activation_option, json_option, open_model, outside_option, print_json, say, stages
from diptych.cli.terminal import tell
from diptych.cli.wording import message_of
from diptych.engines import EngineName
from diptych.errors import CheckpointError

if TYPE_CHECKING:
    from diptych.evaluation.comparison import Compared
    from diptych.evaluation.intervals import Interval

BUNDLED = "bundled"


@click.command("evaluate")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--suite", metavar="TOML", type=click.Path(exists=True, dir_okay=False), help="Data sets and their tasks."
)
@click.option(
    "--out", default="evaluation", show_default=True, type=click.Path(file_okay=False), help="Where results are kept."
)
@click.option(
    "--compare", nargs=2, metavar="A B", help="Set the results in two folders (or results.jsonl files) side by side."
)
@outside_option
@click.option("--engine", type=click.Choice(["openvino", "pytorch"]), help="What runs the models.")
@click.option("--device", help="cuda, mps or cpu; by default the first of these that is here.")
@activation_option
@json_option
def command(
    models: tuple[str, ...], suite: str | None, out: str, compare: tuple[str, str] | None, allow_outside: bool,
    engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Measure MODELs ("bundled", folders, checkpoints or hub ids) on the data sets of a suite: zero-shot accuracy,
    retrieval, linear probes, few shots, corruptions. OUT gets results.jsonl, which a further run goes on with, and
    report.html.

    \b
    diptych evaluate bundled --suite suite.toml --out evaluation/
    diptych evaluate --compare evaluation/ evaluation-of-mine/
    """
    if compare:
        if models or suite:
            raise click.UsageError("--compare takes two results and neither models nor a --suite.")
        return _compared(compare, as_json)
    if not suite:
        raise click.UsageError("no suite. Pass --suite FILE.toml with a [[dataset]] table for each data set.")
    from diptych.evaluation.report.report import write_report
    from diptych.evaluation.suite import read_suite, run
    from diptych.extras import require

    require("measuring models", "matplotlib", "scipy")
    asked = {"--suite": suite, "--out": out, "--engine": engine, "--device": device, "--activation": activation}
    flags = [word for flag, value in asked.items() if value for word in (flag, str(value))]
    flags += ["--allow-outside"] * allow_outside
    entries = read_suite(suite, allow_outside=allow_outside)
    rows, unopened = [], []
    for name in models or (BUNDLED,):
        try:
            embedder = open_model(None if name == BUNDLED else name, device, activation, engine)
        except CheckpointError as error:
            if len(models) < 2:
                raise
            unopened.append(name)  # it costs itself alone; what others took hours for is kept, and reported
            say(message_of(error))
            continue
        with stages(*(f"{name} · {entry.name}" for entry in entries)) as bars, _reported_anyhow(out):
            rows += run(
                embedder,
                entries,
                out,
                name=name,
                command=shlex.join(["diptych", "evaluate", name, *flags]),
                progress=bars,
                tell=_tell,
            )
    report = write_report(out)
    if as_json:
        print_json({"out": out, "rows": rows, "unopened": unopened})
    else:
        _print(rows)
    say(f"wrote {report}")
    sound = [row for row in rows if not row["error"]]
    if not sound:
        return FAILED
    return OK if len(sound) == len(rows) and not unopened and not any(row["failures"] for row in rows) else PARTLY


@contextmanager
def _reported_anyhow(out: str) -> Iterator[None]:
    """Who interrupts an evaluation gets the report of what is done."""
    from diptych.evaluation.report.report import write_report

    try:
        yield
    except KeyboardInterrupt:
        with suppress(OSError, ValueError):
            say(f"wrote {write_report(out)}, of what is done; the same command goes on")
        raise


def _tell(row: dict[str, Any]) -> None:
    said = row["error"] or _numbers(row["metrics"])
    say(f"{row['dataset']} · {row['task']}: {said} ({row['seconds']:.0f} s)")
    if said := row["details"].get("said"):
        say(f"  {said}")
    if row["failures"]:
        counts = ", ".join(f"{count} {reason}" for reason, count in row["failures"].items())
        say(f"  left out {sum(row['failures'].values())}: {counts}")
        for said in row["details"].get("left_out", ()):
            say(f"    {said}")


MAIN = {
    "zero-shot": ("top1", "top5", "mean_class"),
    "retrieval": ("text_to_image_r1", "text_to_image_r10", "image_to_text_r1", "image_to_text_r10"),
    "probe": ("top1", "plain", "l2", "validation_top1"),
    "few-shot": ("zero_shot", "shots_1", "shots_4", "shots_16", "all"),
    "corruptions": ("clean", "mean"),
}


def _numbers(metrics: dict[str, float], names: Sequence[str] | None = None) -> str:
    shown = names or next((each for each in MAIN.values() if each[0] in metrics), ())
    return "  ".join(f"{name} {_number(metrics[name])}" for name in shown if metrics.get(name) is not None)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1 else f"{value:.1f}"


def _print(rows: Sequence[dict[str, Any]]) -> None:
    """Results under the name of their model."""
    for model in dict.fromkeys(row["model"] for row in rows):
        tell(model, fold=False)
        for row in rows:
            if row["model"] == model:
                said = row["error"] or _numbers(row["metrics"], MAIN[row["task"]])
                tell(f"  {row['dataset']} · {row['task']} ({row['count']:,})  {said}")


def _compared(places: tuple[str, str], as_json: bool) -> int:
    from diptych.evaluation.comparison import compare

    found = compare(*places)
    if as_json:
        print_json({"first": places[0], "second": places[1], "rows": [_compared_json(each) for each in found]})
        return OK
    models = list(dict.fromkeys(each.models for each in found))
    if len(models) == 1:
        say(f"A is {models[0][0]} of {places[0]}, B is {models[0][1]} of {places[1]}")
    width = max((len(each.metric) for each in found), default=0)
    tell(f"{'':{width + 2}}       A        B    B - A   95 % interval", fold=False)
    for (names, dataset, task), some in groupby(found, lambda each: (each.models, each.dataset, each.task)):
        of = f" of {names[0]}" if len(models) > 1 else ""
        tell(f"{dataset} · {task}{of}")
        for each in some:
            numbers = f"{each.first:8.1f} {each.second:8.1f} {each.difference:+8.1f}"
            tell(f"  {each.metric:{width}}{numbers}   {_interval(each.interval)}".rstrip(), fold=False)
            if each.note:
                tell(f"    {each.note}")
    return OK


def _interval(interval: Interval | None) -> str:
    return f"{interval.low:+.1f} to {interval.high:+.1f}, {_verdict(interval)}" if interval else ""


def _verdict(interval: Interval) -> str:
    if interval.low == interval.high == 0:
        return "the same"
    return "differs" if interval.excludes_zero else "may be chance"


def _compared_json(each: Compared) -> dict[str, Any]:
    interval = each.interval
    said = {"low": interval.low, "high": interval.high, "excludes_zero": interval.excludes_zero} if interval else None
    return {**each._asdict(), "difference": each.difference, "interval": said}
