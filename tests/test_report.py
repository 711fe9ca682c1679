"""The evaluation's report: the numbers of the rows are in it, names are text, and what is broken costs itself alone."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from diptych.data.scenes import Scenes
from diptych.evaluation.report import write_report
from diptych.evaluation.report_tables import _bootstrapped

CLASSES = (
    "cat",
    "dog",
    "<script>alert(1)</script>",
    "a & b",
    "_hat_",
    "$5$ note",
    "汽车",
    "a rather long class name",
    "cup",
    "7",
)
MODELS = {"bundled": ("9f2c51aa0e", 0.80), "runs/7/model": ("11ab7790cc", 0.88)}
ENGINE = "OpenVINO on cpu (float32, 2 cores)"


def write_evaluation(out: Path, models=MODELS) -> Path:
    """What an evaluation of two models leaves behind; the numbers are drawn, the pictures are drawn scenes."""
    thumbs = out / "details" / "thumbs"
    thumbs.mkdir(parents=True)
    for index, scene in enumerate(Scenes(16, seed=3)):
        scene.image.save(thumbs / f"{index}.jpg")
    rows = [row for at, model in enumerate(models) for row in rows_of(out, model, np.random.default_rng(at), models)]
    missing = {**row_of("gone", "bundled", "zero-shot", {}), "metrics": {}, "error": "there is no folder <data>/gone."}
    (out / "results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, missing]), "utf-8")
    return out


def row_of(dataset: str, model: str, task: str, metrics: dict, **more) -> dict:
    settings = {"templates": "general", "split": "test", "corruption": None, "seed": 0}
    return {
        "key": f"{dataset} {model} {task}", "task": task, "dataset": dataset, "model": model,
        "fingerprint": MODELS.get(model, ("ffee",))[0], "metrics": metrics, "settings": settings, "count": 400,
        "failures": {}, "details": {}, "seconds": 12.3, "started": "2026-11-21T23:00:00", "version": "0.1.0",
        "engine": ENGINE, "error": None, **more,
    }  # fmt: skip


def rows_of(out: Path, model: str, rng: np.random.Generator, models) -> list[dict]:
    base = models[model][1]
    return [
        classes_row(out, "things", model, CLASSES, base, rng, failures={"damaged": 2, "missing": 1}),
        few_shot_row("things", model, base, rng),
        corruptions_row("things", model, base),
        row_of("things", model, "probe", {"top1": 100 * base + 4.5, "l2": 0.0316, "validation_top1": 100 * base + 5}),
        classes_row(out, "things-sketch", model, CLASSES, base - 0.25, rng),
        classes_row(out, "many", model, [f"kind {index}" for index in range(60)], base - 0.3, rng),
        retrieval_row(out, "photos", model, base, rng),
    ]


def classes_row(out: Path, dataset: str, model: str, classes, base: float, rng: np.random.Generator, **more) -> dict:
    """20 pictures a class; neighbours are confused."""
    count = len(classes)
    chance = np.clip(rng.normal(base, 0.12, count), 0.05, 1)
    confusion = np.zeros((count, count), int)
    for true in range(count):
        said = np.where(rng.random(20) < chance[true], true, (true + rng.integers(1, 4, 20)) % count)
        np.add.at(confusion[true], said, 1)
    right = np.repeat([1.0, 0.0], [confusion.trace(), confusion.sum() - confusion.trace()]).astype(np.float32)
    name = f"details/{dataset}-{model.replace('/', '-')}.npz"
    np.savez(out / name, right=right)
    ends = {
        end: [
            {"image": f"details/thumbs/{(index + 8 * (end == 'worst')) % 16}.jpg", "truth": classes[index % count],
             "said": classes[(index + (end == "worst")) % count], "score": 0.93 - index / 50}
            for index in range(8)
        ]
        for end in ("best", "worst")
    }  # fmt: skip
    accuracy = (100 * confusion.diagonal() / 20).tolist()
    details = {"classes": list(classes), "confusion": confusion.tolist(), "class_accuracy": accuracy, "per_item": name}
    top1 = 100 * float(right.mean())
    metrics = {"top1": top1, "top5": (100 + top1) / 2, "mean_class": top1}
    return row_of(dataset, model, "zero-shot", metrics, details={**details, **ends}, count=len(right), **more)


def few_shot_row(dataset: str, model: str, base: float, rng: np.random.Generator) -> dict:
    curve = []
    for shots in (1, 2, 4, 8, 16):
        middle = 100 * (base - 0.42 / shots**0.8) + 6
        wide = 6 / shots**0.5
        wise = max(middle, 100 * base) + 1.5
        curve.append({"shots": shots, "accuracy": middle, "low": middle - wide, "high": middle + wide, "wise": wise})
    metrics = {"zero_shot": 100 * base, **{f"shots_{point['shots']}": point["accuracy"] for point in curve}}
    return row_of(dataset, model, "few-shot", {**metrics, "all": 100 * base + 8}, details={"curve": curve})


def corruptions_row(dataset: str, model: str, base: float) -> dict:
    metrics = {"clean": 100 * base}
    for steep, name in enumerate(("noise", "blur", "jpeg", "contrast"), start=1):
        metrics |= {f"{name}_{level}": 100 * base - 0.7 * level**1.6 * steep * (2 - base) for level in range(1, 6)}
    metrics["mean"] = float(np.mean([value for name, value in metrics.items() if name != "clean"]))
    return row_of(dataset, model, "corruptions", metrics)


def retrieval_row(out: Path, dataset: str, model: str, base: float, rng: np.random.Generator) -> dict:
    name, metrics, hits = f"details/{dataset}-{model.replace('/', '-')}.npz", {}, {}
    for way in ("text_to_image", "image_to_text"):
        hits[f"{way}_right"] = (rng.random(300) < base - 0.4).astype(np.float32)
        first = 100 * float(hits[f"{way}_right"].mean())
        metrics |= {f"{way}_r1": first, f"{way}_r5": first + 20, f"{way}_r10": first + 30}
        metrics |= {f"{way}_median_rank": 30 - 25 * base, f"{way}_map": first + 12.3}
    np.savez(out / name, **hits)
    return row_of(dataset, model, "retrieval", metrics, details={"per_item": name})


if __name__ == "__main__":  # to look at it: python tests/test_report.py FOLDER
    import sys

    shutil.rmtree(sys.argv[1], ignore_errors=True)
    print(write_report(write_evaluation(Path(sys.argv[1]))))
