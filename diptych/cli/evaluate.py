"""diptych evaluate"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import FAILED, OK, PARTLY
from diptych.cli.fetching import yes_option
from diptych.cli.options import (
    activation_option,
    json_option,
    open_model,
    outside_option,
    print_json,
    print_status,
    stages,
)
from diptych.cli.terminal import print_result
from diptych.cli.wording import message_of
from diptych.engines import EngineName

if TYPE_CHECKING:
    from diptych.evaluation.intervals import Interval
    from diptych.evaluation.paired_comparison import MetricComparison


@click.command("evaluate")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--suite", metavar="TOML", type=click.Path(exists=True, dir_okay=False), help="Data sets and their tasks."
)
@click.option(
    "--out",
    default="evaluation",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Folder of the results.",
)
@click.option("--compare", nargs=2, metavar="A B", help="Compare the results in two folders (or results.jsonl files).")
@outside_option
@click.option("--engine", type=click.Choice(["openvino", "pytorch"]), help="The inference engine.")
@click.option("--device", help="cuda, mps or cpu; by default the first that is available.")
@activation_option
@yes_option
@json_option
def command(
    models: tuple[str, ...], suite: str | None, out: str, compare: tuple[str, str] | None, allow_outside: bool,
    engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Evaluate MODELs ("bundled", folders, checkpoints, hub ids or pretrained names) on the data sets of a suite:
    zero-shot accuracy, retrieval, linear probes, few-shot probes, corruptions; for generated pictures, CLIP score with
    their prompts, CMMD with true pictures, and what of plain scenes they show by their pixels. Writes report.html and
    results.jsonl into OUT; the next run continues from there.

    \b
    diptych evaluate bundled --suite suite.toml --out evaluation/
    diptych evaluate --compare evaluation/ evaluation-of-mine/
    """
    if compare:
        if models or suite:
            raise click.UsageError("--compare takes two results, without models and --suite.")
        return _compare(compare, as_json)
    if not suite:
        raise click.UsageError("no suite. Pass --suite FILE.toml with a [[dataset]] table for each data set.")
    from diptych.evaluation.evaluate import BUNDLED, evaluate

    values = {"--suite": suite, "--out": out, "--engine": engine, "--device": device, "--activation": activation}
    flags = [word for flag, value in values.items() if value for word in (flag, str(value))]
    flags += ["--allow-outside"] * allow_outside
    try:
        done = evaluate(
            models or BUNDLED, suite, out, allow_outside=allow_outside,
            open_model=lambda name: open_model(None if name == BUNDLED else name, device, activation, engine),
            command=lambda name: shlex.join(["diptych", "evaluate", name, *flags]),
            progress=lambda titles: stages(*titles), on_row=_print_row,
            on_error=lambda error: print_status(message_of(error)),
        )  # fmt: skip
    except KeyboardInterrupt:
        if (report := Path(out, "report.html")).exists():
            print_status(f"wrote {report} with the finished rows; the same command continues")
        raise
    if as_json:
        print_json({"out": out, "rows": done.rows, "unopened": list(done.unopened)})
    else:
        _print(done.rows)
    print_status(f"wrote {done.report}")
    valid = [row for row in done.rows if not row["error"]]
    if not valid:
        return FAILED
    is_complete = len(valid) == len(done.rows) and not done.unopened
    return OK if is_complete and not any(row["failures"] for row in done.rows) else PARTLY


def _print_row(row: dict[str, Any]) -> None:
    print_status(
        f"{row['dataset']} · {row['task']}: {row['error'] or _numbers(row['metrics'])} ({row['seconds']:.0f} s)"
    )
    if description := row["details"].get("said"):
        print_status(f"  {description}")
    if row["failures"]:
        counts = ", ".join(f"{count} {reason}" for reason, count in row["failures"].items())
        print_status(f"  left out {sum(row['failures'].values())}: {counts}")
        for message in row["details"].get("left_out", ()):
            print_status(f"    {message}")


MAIN_METRICS = {
    "zero-shot": ("top1", "top5", "mean_class"),
    "retrieval": ("text_to_image_r1", "text_to_image_r10", "image_to_text_r1", "image_to_text_r10"),
    "probe": ("top1", "plain", "l2", "validation_top1"),
    "few-shot": ("zero_shot", "shots_1", "shots_4", "shots_16", "all"),
    "corruptions": ("clean", "mean"),
    "clip-score": ("clip_score", "reference_clip_score", "clip_score_other_prompts"),
    "cmmd": ("cmmd", "cmmd_biased"),
    "scene-attributes": ("things", "relation", "colours", "kinds", "true_scenes_things", "true_scenes_next_caption"),
}


def _numbers(metrics: dict[str, float], names: Sequence[str] | None = None) -> str:
    shown = names or next((each for each in MAIN_METRICS.values() if each[0] in metrics), ())
    return "  ".join(f"{name} {_number(metrics[name])}" for name in shown if metrics.get(name) is not None)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1 else f"{value:.1f}"


def _print(rows: Sequence[dict[str, Any]]) -> None:
    """The results of each model below its name."""
    for model in dict.fromkeys(row["model"] for row in rows):
        print_result(model, fold=False)
        for row in rows:
            if row["model"] == model:
                numbers = row["error"] or _numbers(row["metrics"], MAIN_METRICS[row["task"]])
                print_result(f"  {row['dataset']} · {row['task']} ({row['count']:,})  {numbers}")


def _compare(folders: tuple[str, str], as_json: bool) -> int:
    from diptych.evaluation.paired_comparison import compare_results

    found = compare_results(*folders)
    if as_json:
        print_json({"first": folders[0], "second": folders[1], "rows": [_compared_json(each) for each in found]})
        return OK
    models = list(dict.fromkeys(each.models for each in found))
    if len(models) == 1:
        print_status(f"A is {models[0][0]} of {folders[0]}, B is {models[0][1]} of {folders[1]}")
    width = max((len(each.metric) for each in found), default=0)
    print_result(f"{'':{width + 2}}       A        B    B - A   95 % interval", fold=False)
    for (names, dataset, task), some in groupby(found, lambda each: (each.models, each.dataset, each.task)):
        model = f" of {names[0]}" if len(models) > 1 else ""
        print_result(f"{dataset} · {task}{model}")
        for each in some:
            numbers = f"{each.first:8.1f} {each.second:8.1f} {each.difference:+8.1f}"
            print_result(f"  {each.metric:{width}}{numbers}   {_interval(each.interval)}".rstrip(), fold=False)
            if each.note:
                print_result(f"    {each.note}")
    return OK


def _interval(interval: Interval | None) -> str:
    return f"{interval.low:+.1f} to {interval.high:+.1f}, {_verdict(interval)}" if interval else ""


def _verdict(interval: Interval) -> str:
    if interval.low == interval.high == 0:
        return "the same"
    return "differs" if interval.excludes_zero else "may be chance"


def _compared_json(each: MetricComparison) -> dict[str, Any]:
    interval = each.interval
    bounds = {"low": interval.low, "high": interval.high, "excludes_zero": interval.excludes_zero} if interval else None
    return {**each._asdict(), "difference": each.difference, "interval": bounds}
