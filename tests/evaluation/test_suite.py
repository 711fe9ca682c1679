"""Tasks against numbers that are counted by other means, suites, and `diptych evaluate`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.cli import FAILED, INTERRUPTED, OK, PARTLY, USAGE
from diptych.embedder import Embedder
from diptych.errors import DataError
from diptych.evaluation import results, suite
from diptych.evaluation.paired_comparison import array_of, compare_results
from diptych.evaluation.sets.dataset import CaptionedDataset, LabelledDataset
from diptych.evaluation.sets.opening import open_set
from diptych.evaluation.suite_file import SuiteEntry, read_suite
from diptych.evaluation.tasks import corruptions, probing
from diptych.evaluation.tasks.job import EvaluationJob
from diptych.evaluation.tasks.retrieval import retrieval_task
from diptych.evaluation.tasks.zero_shot import zero_shot_task
from diptych.scoring import metrics, zero_shot
from tests.conftest import Cli

PER_CLASS = 12


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Embedder:
    return diptych.load(tiny_model, precision="float32")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noisy pictures in red, green and blue, which any features tell apart; one picture is broken."""
    folder = tmp_path_factory.mktemp("colours")
    draw = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir()
        for index in range(PER_CLASS):
            pixels = draw.integers(0, 120, (40, 40, 3))
            pixels[..., channel] += 130
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    (folder / "red" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that a report was asked for."""
    asked: list[str] = []

    def write_report(out: str) -> Path:
        asked.append(str(out))
        return Path(out) / "report.html"

    monkeypatch.setattr("diptych.evaluation.evaluate.write_report", write_report)
    return asked


def labelled(folder: Path) -> LabelledDataset:
    found = open_set(folder)
    assert isinstance(found, LabelledDataset)
    return found


def test_zero_shot_is_what_classify_says(model: Embedder, colours: Path) -> None:
    data = labelled(colours)
    outcome = zero_shot_task(EvaluationJob(model, data, prompts=("a {} thing.", "{}")))
    good = [place for place, key in enumerate(data.pictures.keys) if "broken" not in key]
    paths = [data.pictures.read(place) for place in good]
    said = model.classify(paths, data.classes, templates=["a {} thing.", "{}"])
    answers = [data.classes[data.labels[place]] for place in good]
    right = [best == answer for best, answer in zip(said.best, answers, strict=True)]
    assert outcome.metrics["top1"] == pytest.approx(100 * np.mean(right))
    assert outcome.per_item["right"].tolist() == right
    assert outcome.per_item["places"].tolist() == good
    assert outcome.metrics["top5"] == 100
    assert outcome.metrics["mean_class"] == pytest.approx(outcome.metrics["top1"])  # as many of each
    assert (outcome.count, outcome.failures) == (3 * PER_CLASS, {"not an image": 1})
    assert np.sum(outcome.details["confusion"]) == 3 * PER_CLASS
    for example in outcome.best + outcome.worst:
        at = good.index(example.index)
        assert (example.truth, example.predicted) == (answers[at], said.best[at])
        assert example.score == pytest.approx(said.probabilities[at].max(), rel=1e-4)
    assert all(example.truth == example.predicted for example in outcome.best)
    assert all(example.truth != example.predicted for example in outcome.worst)


def test_retrieval_is_that_of_the_metrics(model: Embedder, shards: Path) -> None:
    pairs = open_set(shards)
    assert isinstance(pairs, CaptionedDataset)
    outcome = retrieval_task(EvaluationJob(model, pairs))
    captions = [pairs.captions(place) for place in range(len(pairs.pictures))]
    owners = np.repeat(np.arange(len(captions)), [len(own) for own in captions])
    images = model.embed_images([pairs.pictures.read(place) for place in range(len(captions))])
    texts = model.embed_texts([text for own in captions for text in own], truncate=True)
    ways = metrics.rankings(images, texts, owners)
    for way, ranking in ways._asdict().items():
        got = [outcome.metrics[f"{way}_{name}"] for name in ("r1", "r5", "r10", "median_rank", "map")]
        expected = [*ranking.recall, ranking.median_rank, ranking.mean_average_precision]
        assert got == pytest.approx(expected)
        assert 100 * outcome.per_item[f"{way}_right"].mean() == pytest.approx(outcome.metrics[f"{way}_r1"])
    assert len(outcome.per_item["text_to_image_right"]) == len(texts)
    assert len(outcome.best) == len(outcome.worst) == 8


def test_a_task_says_which_sets_it_is_for(model: Embedder, colours: Path, shards: Path) -> None:
    with pytest.raises(DataError, match="classes and no captions"):
        retrieval_task(EvaluationJob(model, labelled(colours)))
    with pytest.raises(DataError, match="captions and no classes"):
        zero_shot_task(EvaluationJob(model, open_set(shards)))


def write_suite(folder: Path, *tables: str) -> Path:
    path = folder / "suite.toml"
    path.write_text("\n".join(f"[[dataset]]\n{table}" for table in tables))
    return path


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('name = "a"\nsource = "b"\ntask = "probe"', "unknown key 'task'; the keys are name, source, kind"),
        ('name = "a"\nsource = "b"\ntasks = ["prob"]', "has the task 'prob'; there are zero-shot, retrieval, probe"),
        ('name = "a"\nsource = "b"\nkind = "films"', "wanted classes, pairs, pictures or generator"),
        ('name = "a"\nsource = "b"\ntasks = "probe"', "tasks is 'probe'; wanted a list"),
        ('name = "a"\nsource = "b"\nseed = true', "seed is True; wanted a int"),
        ('name = "a"', "has no source"),
        ('name = "a"\nsource = "b"\n[[dataset]]\nname = "a"\nsource = "c"', "two data sets called 'a'"),
        ('name = "a"\nsource = "b"\n[other]', "has the key 'other'"),
        ('name = "a', "is not TOML"),
    ],
)
def test_suites_fail_by_name(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_suite(write_suite(tmp_path, table))


def test_sources_count_from_the_suite(tmp_path: Path) -> None:
    path = write_suite(
        tmp_path,
        'name = "a"\nsource = "pictures"',
        'name = "b"\nsource = "imagenette"',
        'name = "c"\nsource = "hf://x/y"\ntemplates = "mine.json"',
    )
    (tmp_path / "mine.json").write_text('["a {}."]')
    first, second, third = read_suite(path)
    assert first.source == str(tmp_path / "pictures")
    assert (second.source, third.source) == ("imagenette", "hf://x/y")
    assert third.templates == str(tmp_path / "mine.json")


def test_evaluate(cli: Cli, colours: Path, shards: Path, tiny_model: Path, tmp_path: Path, reported: list[str]) -> None:
    path = write_suite(
        tmp_path,
        f'name = "colours"\nsource = "{colours}"\ntemplates = "plain"',
        f'name = "scenes"\nsource = "{shards}"',
        'name = "gone"\nsource = "nowhere"\ntasks = ["zero-shot"]',
    )
    out = tmp_path / "out"
    said = cli("evaluate", tiny_model, "--suite", path, "--out", out, "--json")
    assert said.code == PARTLY
    assert reported == [str(out)]
    assert [(row["dataset"], row["task"]) for row in said.json["rows"]] == [
        ("colours", "zero-shot"), ("scenes", "retrieval"), ("gone", "zero-shot"),
    ]  # fmt: skip
    first, second, third = results.read_results(out)
    assert first["key"] == said.json["rows"][0]["key"]
    assert said.json["rows"][0]["metrics"] == pytest.approx(first["metrics"])
    assert first["settings"]["templates"] == "plain"
    assert first["fingerprint"] == diptych.load(tiny_model).fingerprint
    assert (first["count"], first["failures"]) == (36, {"not an image": 1})
    assert np.load(out / first["details"]["per_item"])["right"].mean() * 100 == pytest.approx(first["metrics"]["top1"])
    for example in second["details"]["best"]:
        with Image.open(out / example["image"]) as image:
            assert max(image.size) <= 128
    assert "is not there" in third["error"]
    assert third["metrics"] == {}
    assert "is not there" in said.err

    again = cli("evaluate", tiny_model, "--suite", path, "--out", out, "--json")
    assert again.json["rows"][:2] == said.json["rows"][:2]  # to the second of their start: they were not made again
    shutil.copytree(colours, tmp_path / "nowhere")
    mended = cli("evaluate", tiny_model, "--suite", path, "--out", out)
    assert mended.code == PARTLY  # a picture is broken, which is said again
    assert "left out 1: 1 not an image" in mended.err
    (why,) = results.read_results(out)[0]["details"]["left_out"]
    assert "red/broken.png" in why
    assert why in " ".join(mended.err.split())
    assert "top1" in mended.out
    assert [row["error"] for row in results.read_results(out)] == [None, None, None]


def test_another_template_is_another_row(model: Embedder, colours: Path, tmp_path: Path) -> None:
    for templates in ("plain", "general", "plain"):
        suite.run(model, [SuiteEntry("c", str(colours), templates=templates)], tmp_path)
    assert [row["settings"]["templates"] for row in results.read_results(tmp_path)] == ["plain", "general"]


def test_a_torn_last_line_is_dropped(model: Embedder, colours: Path, tmp_path: Path) -> None:
    entry = SuiteEntry("c", str(colours))
    (row,) = suite.run(model, [entry], tmp_path)
    path = tmp_path / results.FILE
    with path.open("a") as file:
        file.write('{"key": "12", "task": "zero-')
    assert [each["key"] for each in results.read_results(tmp_path)] == [row["key"]]
    suite.run(model, [SuiteEntry("d", str(colours))], tmp_path)
    assert [each["dataset"] for each in results.read_results(path)] == ["c", "d"]
    path.write_text("torn\n" + path.read_text())
    with pytest.raises(DataError, match="line 1 is not a result row"):
        results.read_results(tmp_path)


def test_what_cannot_be_evaluated(cli: Cli, tmp_path: Path, tiny_model: Path, reported: list[str]) -> None:
    assert cli("evaluate", tiny_model).code == USAGE
    path = write_suite(tmp_path, 'name = "gone"\nsource = "nowhere"')
    assert cli("evaluate", tiny_model, "--suite", path, "--out", tmp_path / "out").code == FAILED


def test_a_model_that_cannot_be_opened_costs_itself(
    cli: Cli, shards: Path, tmp_path: Path, tiny_model: Path, reported: list[str]
) -> None:
    path, out = write_suite(tmp_path, f'name = "scenes"\nsource = "{shards}"'), tmp_path / "out"
    said = cli("evaluate", "no-model", tiny_model, "--suite", path, "--out", out, "--json")
    assert said.code == PARTLY
    assert "no-model is not a file, a folder" in said.err
    assert said.json["unopened"] == ["no-model"]
    assert [row["error"] for row in said.json["rows"]] == [None]
    assert reported == [str(out)]
    assert cli("evaluate", tiny_model, "--suite", path, "--out", out).code == OK
    assert cli("evaluate", "no-model", "--suite", path, "--out", out).code == FAILED


def write_results(
    folder: Path, right: np.ndarray, *, model: str = "m", identity: str = "a", split: str = "test"
) -> Path:
    """A folder with one zero-shot row, whose pictures went so."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "items.npz", identity=np.array(identity), places=np.arange(len(right)), right=right)
    numbers = {"top1": 100 * float(right.mean()), "mean_class": 50.0}
    row = {"key": model, "task": "zero-shot", "dataset": "d", "model": model, "metrics": numbers, "error": None}
    results.append(folder, row | {"settings": {"split": split}, "details": {"per_item": "items.npz"}})
    return folder


def test_two_results_side_by_side(cli: Cli, tmp_path: Path) -> None:
    """Of 400 pictures 40 more are right, and none fewer: the difference is 10 points, with a standard error of 1.5."""
    right = np.r_[np.ones(200), np.zeros(200)]
    better = np.r_[np.ones(240), np.zeros(160)]
    a, b = write_results(tmp_path / "a", right), write_results(tmp_path / "b", better, model="other")
    said = cli("evaluate", "--compare", a, b / results.FILE, "--json")
    assert said.code == OK
    top, mean = said.json["rows"]
    assert (top["first"], top["second"], top["difference"]) == (50, 60, 10)
    assert top["interval"]["excludes_zero"]
    assert top["interval"]["low"] == pytest.approx(10 - 1.96 * 1.5, abs=0.6)
    assert top["interval"]["high"] == pytest.approx(10 + 1.96 * 1.5, abs=0.6)
    assert mean["interval"] is None  # nothing is known of each picture
    plain = cli("evaluate", "--compare", a, b)
    assert "differs" in plain.out
    assert f"A is m of {a}, B is other of {b}" in plain.err
    assert "+10.0" in plain.out
    assert "the same" in cli("evaluate", "--compare", a, a).out


def test_other_pictures_are_not_paired(tmp_path: Path) -> None:
    a = write_results(tmp_path / "a", np.ones(9))
    b = write_results(tmp_path / "b", np.zeros(9), identity="other", split="val")
    (top, _) = compare_results(a, b)
    assert top.difference == -100
    assert top.interval is None
    assert top.note == "with another split, other pictures, so no interval"


def test_what_cannot_be_compared(cli: Cli, tmp_path: Path) -> None:
    a = write_results(tmp_path / "a", np.ones(9))
    b = write_results(write_results(tmp_path / "b", np.zeros(9), model="x"), np.zeros(9), model="y")
    with pytest.raises(DataError, match="of m and of x, y; keep one model in each"):
        compare_results(a, b)
    assert cli("evaluate", "--compare", a, tmp_path).code == FAILED
    assert cli("evaluate", "m", "--compare", a, b).code == USAGE
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / results.FILE).write_text("")
    with pytest.raises(DataError, match="no task on the same data set in common"):
        compare_results(a, tmp_path / "c")


def test_captions_of_a_picture_go_together(model: Embedder, shards: Path, tmp_path: Path) -> None:
    """A model against itself: no metric differs, and each recall@1 has its interval."""
    suite.run(model, [SuiteEntry("scenes", str(shards))], tmp_path)
    found = {each.metric: each for each in compare_results(tmp_path, tmp_path)}
    for metric in ("text_to_image_r1", "image_to_text_r1"):
        assert found[metric].interval == (0, 0, 0)
    assert {each.difference for each in found.values()} == {0}


def test_every_metric_that_is_a_mean_has_its_items(
    model: Embedder, colours: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corruptions, "CORRUPTIONS", ("contrast",))
    monkeypatch.setattr(probing, "FOLDS", 2)
    monkeypatch.setattr(probing, "DRAWS", 2)
    entries = [
        SuiteEntry("colours", str(colours), tasks=("zero-shot", "probe", "few-shot", "corruptions")),
        SuiteEntry("scenes", str(shards)),
    ]
    without = set()
    for row in suite.run(model, entries, tmp_path):
        assert row["error"] is None
        items = np.load(tmp_path / row["details"]["per_item"])
        for metric, value in row["metrics"].items():
            if array_of(metric) in items:
                assert value == pytest.approx(100 * items[array_of(metric)].mean(), abs=1e-4)
            else:
                without.add(metric.replace("image_to_text", "text_to_image"))
    others = {f"text_to_image_{name}" for name in ("median_rank", "map")}
    assert without == {"mean_class", "l2", "validation_top1"} | others


def test_a_run_that_is_cut_off_goes_on(model: Embedder, colours: Path, tmp_path: Path) -> None:
    entries = [SuiteEntry(name, str(colours)) for name in ("a", "b")]

    def cut(row: results.ResultRow) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suite.run(model, entries, tmp_path, on_row=cut)
    made: list[results.ResultRow] = []
    rows = suite.run(model, entries, tmp_path, on_row=made.append)
    assert [row["dataset"] for row in rows] == ["a", "b"]
    assert [row["dataset"] for row in made] == ["b"]


def test_who_interrupts_gets_the_report_of_what_is_done(
    cli: Cli, tiny_model: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suite.toml").write_text(f'[[dataset]]\nname = "a"\nsource = "{colours}"\n', encoding="utf-8")
    out = tmp_path / "out"

    def interrupt(row: results.ResultRow) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diptych.cli.evaluate._print_row", interrupt)
    said = cli("evaluate", tiny_model, "--suite", tmp_path / "suite.toml", "--out", out)
    assert said.code == INTERRUPTED
    assert f"wrote {out / 'report.html'} with the finished rows; the same command continues" in said.err
    assert (out / "report.html").is_file()
    (row,) = results.read_results(out)
    assert row["command"] == f"diptych evaluate {tiny_model} --suite {tmp_path / 'suite.toml'} --out {out}"
    assert row["details"]["prompts"] == list(zero_shot.GENERAL_TEMPLATES)


def test_errors_go_when_their_set_comes(model: Embedder, shards: Path, tmp_path: Path) -> None:
    """What a missing set would have been nobody knows; its error does not stay under a task that it does not have."""
    entry = SuiteEntry("scenes", str(tmp_path / "scenes"))
    assert suite.run(model, [entry], tmp_path / "out")[0]["error"]
    shutil.copytree(shards, tmp_path / "scenes")
    suite.run(model, [entry], tmp_path / "out")
    assert [(row["task"], row["error"]) for row in results.read_results(tmp_path / "out")] == [("retrieval", None)]
