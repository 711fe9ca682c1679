"""The evaluation's report: it has the numbers of the rows, names are text, and invalid parts are left out."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.display.escaping import escape_control_characters
from diptych.evaluation.report.page import write_report
from diptych.scenes.scene import Scenes

SCRIPT = "<script>alert(1)</script>"
CLASSES = (
    "cat",
    "dog",
    SCRIPT,
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
    things = classes_row(out, "things", model, CLASSES, base, rng, failures={"damaged": 2, "missing": 1})
    base = things["metrics"]["top1"] / 100
    return [
        things,
        few_shot_row("things", model, base, rng),
        corruptions_row("things", model, base),
        row_of("things", model, "probe", {"top1": 100 * base + 4.5, "l2": 0.0316, "validation_top1": 100 * base + 5}),
        shifted_row(classes_row(out, "things-sketch", model, CLASSES, base - 0.25, rng), "things", 100 * base),
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


def shifted_row(row: dict, shift_of: str, top1: float | None, **base) -> dict:
    """The row as a suite leaves it that says of what its set is a shift."""
    base = {"name": shift_of, "top1": top1, "count": 200, "classes": 10, "of": 10, **base}
    return {**row, "shift_of": shift_of, "details": {**row["details"], "base": base}}


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


class Page(HTMLParser):
    """What a browser would make of it: tags with attributes, texts, and the plots that are inside."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.html = path.read_text("utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def all(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in names]

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    @property
    def plots(self) -> list[str]:
        head = "data:image/svg+xml;base64,"
        sources = [image["src"] for image in self.all("img")]
        return [base64.b64decode(src.removeprefix(head)).decode() for src in sources if src.startswith(head)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole evaluation, to be read only."""
    return write_evaluation(tmp_path_factory.mktemp("evaluation") / "out")


@pytest.fixture(scope="module")
def page(made: Path) -> Page:
    return Page(write_report(made))


def small(out: Path, *rows: dict | str) -> Page:
    """The page of a few rows."""
    out.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (out / "results.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return Page(write_report(out))


def test_the_numbers_of_all_rows_are_there(made: Path, page: Page) -> None:
    rows = [json.loads(line) for line in (made / "results.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 15
    for row in rows:
        for name, value in row["metrics"].items():
            assert (f"{value:.3g}" if name == "l2" else f"{value:.1f}") in page.texts, (row["key"], name)
        assert {row["model"], row["dataset"]} <= set(page.texts)
    assert {"9f2c51aa0e", ENGINE, "diptych 0.1.0", "2026-11-21T23:00:00", "12.3 s", "general"} <= set(page.texts)


def test_nothing_comes_from_outside(page: Page) -> None:
    assert not page.all("script", "link", "iframe", "object", "embed")
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith(("data:image/svg+xml;base64,", "data:image/jpeg;base64,", "#"))
    assert "url(" not in page.html
    assert "@import" not in page.html
    assert len(page.plots) == 12  # 3 of things and of things-sketch each, shots, 4 corruptions, robustness
    for plot in page.plots:
        assert not re.search(r"href=\"(?!#|data:image/png)", plot)
        assert "prefers-color-scheme:dark" in plot


def test_a_browser_is_told_to_load_and_run_nothing(made: Path, page: Page) -> None:
    """Should anything of a stranger's ever become markup; the page's own style is known by its hash."""
    [policy] = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    rules = {name: values for name, *values in map(str.split, policy.split(";"))}
    style = re.search("<style>(.*?)</style>", page.html, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert rules == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "style-src": [f"'sha256-{digest}'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    assert page.html.index("Content-Security-Policy") < page.html.index("<title>")
    assert {"name": "referrer", "content": "no-referrer"} in page.all("meta")
    assert page.html.count("<style>") == 1
    assert not [attributes for _, attributes in page.tags if "style" in attributes]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    widths = {image["class"] for image in page.all("img") if image.get("class", "").startswith("w")}
    assert widths
    assert all(f".{width} {{ min-width:" in style[1] for width in widths)


HOSTILE = (
    "<img src=x onerror=alert(1)>", '"><script>alert(1)</script>', "'onmouseover='alert(1)", "</style><b>", "&lt;b&gt;",
    "javascript:alert(1)", "{{ 7 * 7 }}{% raw %}", "</title></head><body onload=alert(1)>", "<!--", "]]>", "\u202eexe",
    "$\\frac{1}{0}$", "]]><svg onload=alert(1)>",
)  # fmt: skip


def test_a_name_anywhere_is_text(tmp_path: Path) -> None:
    """As a model, data set, setting, class, reason and message; the tags are those of a page of plain names."""

    def rows(names: Sequence[str]) -> list[dict]:
        said = " ".join(names)
        confusion = {"classes": list(names), "confusion": (np.eye(len(names)) + 1).tolist()}
        whole = {"settings": {said: said}, "failures": {said: 2}, "fingerprint": said, "engine": said, "command": said}
        details = {**confusion, "left_out": [said]}
        return [
            row_of(said, said, "zero-shot", {"top1": 87.5, said: 1.0}, details=details, **whole),
            row_of(f"{said}2", said, "probe", {}, error=said),
        ]

    page = small(tmp_path / "a", *rows(HOSTILE))
    plain = small(tmp_path / "b", *rows([f"name {at}" for at in range(len(HOSTILE))]))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in page.tags] == [sorted(attributes) for _, attributes in plain.tags]
    assert all(any(escape_control_characters(name) in text for text in page.texts) for name in HOSTILE)
    assert "\u202e" not in page.html
    assert len(page.plots) == len(plain.plots) > 0
    for plot, other in zip(page.plots, plain.plots, strict=True):
        tags = [{*re.findall(r"<(/?[A-Za-z]+)[ >/]", drawn)} for drawn in (plot, other)]
        assert tags[0] == tags[1]
        assert not re.search(r"<[^>]*\son[a-z]+=", plot)


def test_no_other_module_makes_html() -> None:
    """Strings with tags in them; `<name>` alone stands for a name in messages."""
    tags = "html|body|head|div|span|p|b|i|a|img|svg|table|t[rdh]|script|style|br|ul|li|h[1-6]"
    made = re.compile(rf"</?({tags})\b[^<]*>|\|safe\b")
    package = Path(diptych.__file__).parent
    found = [path.name for path in package.rglob("*.py") if made.search(path.read_text("utf-8"))]
    templates = [path.read_text("utf-8") for path in package.rglob("*.jinja")]
    assert found == ["figures.py"]  # a style among what matplotlib has made of a plot
    assert len(templates) == 5
    assert not [text for text in templates if re.search(r"\|\s*safe|autoescape", text)]


def test_it_can_be_read_by_a_machine_that_reads_aloud(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert all(image.get("alt") for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table")) > 15
    assert {cell.get("scope") for cell in page.all("th")} == {"row", "col", "rowgroup"}
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert {link["href"][1:] for link in page.all("a")} <= targets
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_names_are_text(page: Page) -> None:
    assert SCRIPT in page.texts
    assert "<script" not in page.html
    assert "a & b" in page.texts
    assert "a &amp; b" in page.html
    assert any("a &amp; b" in plot and "$5$ note" in plot and "汽车" in plot for plot in page.plots)
    assert not any("<script" in plot for plot in page.plots)


def test_errors_and_skipped_pictures_are_named(page: Page) -> None:
    assert "gone, zero-shot, bundled : there is no folder <data>/gone." in page.text
    assert "things, zero-shot, bundled : 2 damaged, 1 missing" in page.text
    assert "Left out of this page" not in page.text


def test_the_same_results_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    first = write_report(made).read_bytes()
    assert write_report(made).read_bytes() == first
    elsewhere = shutil.copytree(made, tmp_path / "moved")
    (elsewhere / "report.html").unlink()
    assert write_report(elsewhere).read_bytes() == first
    assert not list(elsewhere.glob(".*"))  # nothing half-written stays


def test_what_is_broken_costs_itself_alone(made: Path, page: Page, tmp_path: Path) -> None:
    out = shutil.copytree(made, tmp_path / "out")
    (out / "details" / "things-bundled.npz").write_bytes(b"PK no archive")
    (out / "details" / "many-bundled.npz").unlink()
    (out / "details" / "thumbs" / "3.jpg").write_bytes(b"no picture")
    with (out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write('[1, 2]\n{"task": "zero-shot", "dataset": 3, "model": "x"}\n{"key": "torn", "task": "zero-')
    broken = Page(write_report(out))
    assert "results.jsonl, line 16, is not a result row: wanted an object" in broken.text
    assert "results.jsonl, line 17, is not a result row: no dataset" in broken.text
    assert "results.jsonl, line 18, is not a result row" in broken.text
    assert "things, zero-shot, bundled: no interval" in broken.text
    assert "many, zero-shot, bundled: no interval" in broken.text
    assert "things, zero-shot, bundled: a picture among the best is missing" in broken.text
    intervals = [text for text in page.texts if re.fullmatch(r"[\d.]+ to [\d.]+", text)]
    left = [text for text in broken.texts if re.fullmatch(r"[\d.]+ to [\d.]+", text)]
    assert len(left) == len(intervals) - 2
    lost = len(page.all("img")) - len(broken.all("img"))
    assert lost == 6  # the one picture, of 2 models on 3 sets
    assert len(broken.plots) == len(page.plots)


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({"classes": ["a", "b"], "confusion": [[1, 2]]}, "no confusion matrix: it is 1 x 2 for 2 classes"),
        ({"classes": ["a", "b"], "confusion": [[1, -2], [0, 3]]}, "no confusion matrix: some values are not counts"),
        ({"classes": ["a"], "confusion": "many"}, "no confusion matrix"),
        ({"classes": ["a", "b"], "class_accuracy": [1]}, "bundled has 1 accuracies for 2 classes"),
        ({"per_item": "../elsewhere.npz"}, "../elsewhere.npz is outside"),
        ({"best": [{"image": "/etc/passwd"}]}, "/etc/passwd is outside"),
        ({"worst": [{"truth": "a"}, 3]}, "a picture among the worst is missing"),
    ],
)
def test_details_that_are_not_what_they_should_be(tmp_path: Path, details: dict, said: str) -> None:
    page = small(tmp_path / "out", row_of("digits", "bundled", "zero-shot", {"top1": 61.25}, details=details))
    assert said in page.text
    assert "61.2" in page.texts


def test_items_that_belong_to_another_number_give_no_interval(tmp_path: Path) -> None:
    np.savez(tmp_path / "items.npz", right=np.array([1, 1, 1, 0], np.float32))
    details = {"per_item": "items.npz"}
    page = small(tmp_path, row_of("digits", "bundled", "zero-shot", {"top1": 60.0}, details=details))
    assert "no interval: the items' mean is 75.0, top1 is 60.0" in page.text


def test_intervals_are_those_of_the_normal_approximation(tmp_path: Path) -> None:
    """Of 2,500 items, 80 % right: 80 ± 1.96 · sqrt(0.8 · 0.2 / 2500), which is 78.4 to 81.6."""
    np.savez(tmp_path / "items.npz", right=np.repeat(np.array([1, 0], np.float32), [2000, 500]))
    page = small(tmp_path, row_of("digits", "bundled", "zero-shot", {"top1": 80.0}, details={"per_item": "items.npz"}))
    [interval] = [text for text in page.texts if re.fullmatch(r"[\d.]+ to [\d.]+", text)]
    low, high = map(float, interval.split(" to "))
    assert low == pytest.approx(78.4, abs=0.15)
    assert high == pytest.approx(81.6, abs=0.15)


def test_the_later_of_two_rows_counts_and_an_error_that_was_made_good_is_gone(tmp_path: Path) -> None:
    failed = row_of("digits", "bundled", "zero-shot", {}, key="1", error="there is no digits.")
    first = row_of("digits", "bundled", "zero-shot", {"top1": 11.1}, key="2")
    page = small(tmp_path / "out", failed, first, {**first, "key": "3", "metrics": {"top1": 22.2}})
    assert "22.2" in page.texts
    assert "11.1" not in page.texts
    assert "there is no digits." not in page.text


def test_models_of_one_name_and_other_weights_are_told_apart(tmp_path: Path) -> None:
    row = row_of("digits", "runs/7/model", "zero-shot", {"top1": 11.1})
    page = small(tmp_path / "out", row, {**row, "fingerprint": "ffee00112233", "metrics": {"top1": 22.2}})
    assert {"runs/7/model (11ab77)", "runs/7/model (ffee00)", "11.1", "22.2"} <= set(page.texts)


def test_settings_that_differ_are_said(tmp_path: Path) -> None:
    row = row_of("digits", "bundled", "zero-shot", {"top1": 11.1})
    other = {**row, "settings": {**row["settings"], "templates": "<plain>"}, "metrics": {"top1": 22.2}}
    page = small(tmp_path / "out", row, other)
    assert "zero-shot (templates general): accuracy" in page.texts
    assert "Zero-shot (templates <plain>)" in page.texts


def test_the_confusions_of_many_classes_lie_beside_the_row(tmp_path: Path) -> None:
    confusion = 5 * np.eye(50, dtype=int)
    confusion[3, 7] = 15
    np.savez(tmp_path / "items.npz", confusion=confusion)
    details = {"classes": [f"kind {index}" for index in range(50)], "per_item": "items.npz"}
    page = small(tmp_path, row_of("many", "bundled", "zero-shot", {"top1": 94.3}, details=details))
    assert "kind 3 → kind 7 15 75.0 %" in page.text
    assert not page.plots


def test_a_shift_and_what_it_costs(tmp_path: Path) -> None:
    odd = row_of("odd", "bundled", "zero-shot", {"top1": 70.0})
    page = small(
        tmp_path / "out",
        row_of("cifar10", "bundled", "zero-shot", {"top1": 80.0}),
        row_of("cifar10-c", "bundled", "zero-shot", {"top1": 68.5}),  # nothing says that it is a shift
        shifted_row(odd, "cifar10", 91.5, classes=7),
    )
    assert len(page.plots) == 1
    robustness = page.text[page.text.index("Robustness") :]
    assert "odd (7 of 10 classes) 70.0 −21.5 from 91.5" in robustness
    assert "−11.5" not in page.text
    assert "from the line" not in page.text


def test_what_a_shift_could_not_be_compared_with_is_said(tmp_path: Path) -> None:
    objects, gone = (row_of(name, "bundled", "zero-shot", {"top1": 70.0}) for name in ("objects", "gone"))
    page = small(
        tmp_path / "out",
        row_of("cifar10", "bundled", "zero-shot", {"top1": 80.0}),
        shifted_row(objects, "cifar10", 81.5, missing=["air freshener", "<b>"], lacking=5),
        shifted_row(gone, "cifar10", None, problem="cifar10 cannot be opened: no network."),
    )
    assert "(air freshener, <b> and 3 more), so it is compared with the accuracy on all 10 classes" in page.text
    assert "objects 70.0 −11.5 from 81.5" in page.text
    assert "gone could not be compared for bundled: cifar10 cannot be opened: no network." in page.text


def test_a_line_is_fitted_through_five_models_and_not_through_four(tmp_path: Path) -> None:
    """Each loses half of its odds, so all lie on one line in logits, though on none in percent."""
    rows = []
    for at, odds in enumerate((0.5, 1, 2, 4, 8)):
        top1 = 100 * odds / (odds + 2)
        row = row_of("sketch", f"m{at}", "zero-shot", {"top1": top1})
        rows.append(shifted_row(row, "things", 100 * odds / (odds + 1)))
        rows.append(row_of("things", f"m{at}", "zero-shot", {"top1": 50.0}))
    assert "from the line" not in small(tmp_path / "four", *rows[:8]).text
    page = small(tmp_path / "five", *rows)
    assert "50.0 −16.7 from 66.7, +0.0 from the line" in page.text
    assert page.text.count("+0.0 from the line") == 5


def test_nothing_measured_is_a_page_too(tmp_path: Path) -> None:
    page = small(tmp_path / "out", row_of("gone", "bundled", "zero-shot", {}, error="no such folder: gone."), "{torn")
    assert "no such folder: gone." in page.text
    assert "results.jsonl, line 2, is not a result row" in page.text
    assert not page.all("img")
    with pytest.raises(FileNotFoundError, match=r"holds no results\.jsonl"):
        write_report(tmp_path)


def test_letters_that_no_file_can_hold(tmp_path: Path) -> None:
    details = {"classes": ["caf\udce9", "b\x00\x08"], "confusion": [[3, 1], [0, 4]]}
    page = small(tmp_path / "out", row_of("digits", "bundled", "zero-shot", {"top1": 87.5}, details=details))
    assert len(page.plots) == 2
    assert not any("\x00" in plot for plot in page.plots)


if __name__ == "__main__":  # to look at it: python tests/evaluation/report/test_page.py FOLDER
    import sys

    shutil.rmtree(sys.argv[1], ignore_errors=True)
    print(write_report(write_evaluation(Path(sys.argv[1]))))
