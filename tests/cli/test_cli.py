"""The command line, run in this process: what each command prints, writes and returns. Bad input: test_cli_errors."""

import io
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, Cli, Said
from PIL import Image

import diptych
from diptych.cli import COMMANDS, FAILED, NOTHING, OK, PARTLY, USAGE
from diptych.cli import diptych as group
from diptych.data.inspection import loader_rate
from diptych.index.catalog.catalog import Catalog
from diptych.media.images import find_images
from diptych.scenes.scene import Scenes, draw_scene
from diptych.training.diagnostics.throughput import training_rate

# --- every command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_an_example_and_a_test(cli: Cli, name: str) -> None:
    said = cli(name, "--help")
    assert said.code == OK
    assert "--json" in said.out
    assert all(option in said.out for option in ("--model", "--device") if name in ("search", "classify", "compare"))
    examples = [shlex.split(line) for line in said.out.splitlines() if line.strip().startswith(f"diptych {name} ")]
    assert examples, f"the help of {name} shows no example"
    command = group.get_command(group.make_context("diptych", [name]), name)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for example in examples for word in example if word.startswith("--")} <= known
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert re.search(rf'cli\(\s*"{name}"', tests), f"no test runs {name}"


def test_help_lists_commands_and_exit_codes(cli: Cli) -> None:
    said = cli("--help")
    assert said.code == OK
    assert all(name in said.out and what in said.out for name, what in COMMANDS.items())
    codes = "Exit codes: 0 ok, 1 failed, 2 usage, 3 some inputs failed, 4 nothing found, 130 interrupted."
    assert codes in " ".join(said.out.split())
    assert cli("--version").out == f"diptych {diptych.__version__}\n"
    assert cli().code == USAGE


# --- index and doctor


def test_index_makes_and_updates(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """With the readers' processes and a model on its engine; the index remembers which."""
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / "broken.jpg").write_text("no picture")
    said = cli("index", folder, "--model", tiny_model)
    assert said.code == PARTLY
    assert re.fullmatch(r"8 added, 0 changed, 0 renamed, 0 forgotten, 0 unchanged in .* s", said.out.splitlines()[0])
    assert "left out 1: 1 not an image" in said.err
    (folder / "scene-0.png").unlink()
    (folder / "scene-1.png").rename(folder / "one.png")
    said = cli("index", folder, "--json", "--exclude", "below/")
    assert said.code == PARTLY  # for as long as it is broken
    wanted = {"added": 0, "renamed": 1, "forgotten": 2, "unchanged": 5, "failed_before": 1, "indexed_pictures": 6}
    assert wanted.items() <= said.json.items()
    assert "broken.jpg" in said.json["failures"]
    assert said.json["indexed_failed"] == 1
    assert "left out 1: 1 not an image (1 of them as before: diptych doctor FOLDER lists all)" in said.err
    searched = cli("search", "a red star", folder, "--json")  # which looks the folder over, too
    assert searched.json["searched"] == 6
    for how in ("--update", "--no-update"):
        searched = cli("search", "a red star", folder, "--json", how)
        assert searched.code == PARTLY
        assert list(searched.json["failures"]) == [str(folder / "broken.jpg")]
    assert "left out as before: below/" in cli("index", folder).err
    assert cli("index", folder, "--exclude", "", "--json").json["added"] == 1
    model = diptych.load(tiny_model)
    with Catalog.open(folder / ".diptych" / "catalog.sqlite") as catalog:
        (item,) = catalog.items(catalog.matching("path = 'one.png'"))
        cosine = catalog.vectors_of([item.id])[0] @ model.embed_images([folder / "one.png"])[0]
        assert cosine == pytest.approx(1, abs=0.01)


def test_index_of_nothing_and_wrong_uses(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    assert cli("index", tmp_path, "--model", tiny_model).code == NOTHING
    assert cli("index", tmp_path / "missing").code == USAGE
    assert "--vectors, which is missing" in cli("index", tmp_path, "--paths", __file__).err
    assert cli("index", tmp_path, "--watch", "--reindex").code == USAGE


def test_index_says_what_became_of_vectors(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "vectors"
    shutil.copytree(pictures, folder)
    assert cli("embed", folder, out, "--model", tiny_model).code == OK
    (folder / "scene-0.png").unlink()
    said = cli("index", folder, "--model", tiny_model, "--vectors", out, "--json")
    others = {"of_indexed_files": 0, "not_finite": 0, "read_otherwise_today": 0, "repeated": 0}
    assert said.json["vectors"] == {"taken": 7, "of_no_file_here": 1, **others}
    said = cli("index", folder, "--vectors", out)
    assert "vectors: 7 of indexed files, 1 of no file here (--reindex takes these)" in said.out


def test_doctor_of_the_installation(cli: Cli) -> None:
    said = cli("doctor", "--json")
    assert said.code == OK
    assert said.json["findings"] == []
    assert said.json["facts"]["diptych"] == diptych.__version__


# --- search


def test_search_prints_a_table(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    said = cli("search", "a red star", pictures, "--model", tiny_model)
    assert said.code == OK
    model = diptych.load(tiny_model)
    files = find_images(pictures)
    cosines = dict(zip(files, model.similarity(files, ["a red star"])[:, 0].tolist(), strict=True))
    lines = [line.split(maxsplit=2) for line in said.out.splitlines()]
    assert [Path(path) for _, _, path in lines] == sorted(files, key=lambda path: -cosines[path])
    for score, z, path in lines:
        assert float(score) == pytest.approx(cosines[Path(path)], abs=2e-3)
        assert z == "-"  # eight pictures are no background
    assert f"{tiny_model} · OpenVINO on cpu" in said.err


def test_search_as_json_and_paths(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    arguments = ("search", "a red star", pictures, "--model", tiny_model, "--limit", 3)
    said = cli(*arguments, "--json")
    assert said.json.keys() == {"terms", "searched", "hits", "failures"}
    assert said.json["terms"] == [{"text": "a red star", "weight": 1}]
    assert (said.json["searched"], said.json["failures"]) == (8, {})
    scores = [hit["score"] for hit in said.json["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert cli(*arguments, "--paths").out.splitlines() == [hit["path"] for hit in said.json["hits"]]
    assert len(scores) == 3


def test_search_writes_sheets(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    sheet, shown = tmp_path / "sheet.png", tmp_path / "shown.png"
    options = ("--limit", 6, "--sheet", sheet, "--show-input", shown)
    said = cli("search", "a red star", pictures, "--model", tiny_model, *options)
    assert said.code == OK
    for path, height in ((sheet, 28 + 2 * 216 + 8), (shown, 2 * 188 + 8)):  # a title, and three lines under each
        assert f"wrote {path}" in said.err
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.size == (5 * 168 + 8, height)  # five a row
            assert len(np.unique(np.asarray(picture))) > 50
    assert "wrote" not in said.out


def test_search_in_a_folder_without_pictures(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    said = cli("search", "a dog", tmp_path, "--model", tiny_model, "--json")
    assert said.code == NOTHING
    assert said.json["hits"] == []
    assert f"no pictures in {tmp_path}; wanted JPEG, PNG" in said.err


@pytest.fixture(scope="module")
def indexed(pictures: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder photos/ of three pictures of different shapes, and a note, with its index."""
    folder = tmp_path_factory.mktemp("indexed") / "photos"
    (folder / "below").mkdir(parents=True)
    for number, size in enumerate(((64, 48), (48, 64), (64, 64))):
        with Image.open(pictures / f"scene-{number}.png") as picture:
            picture.resize(size).save(folder / ("below" if number == 2 else ".") / f"{number}.png")
    (folder / "notes.txt").write_text("The house is red.\n\nA blue star above it.\n")
    diptych.open_index(folder, model=tiny_model).update()
    return folder


@pytest.fixture
def several(indexed: Path, tmp_path: Path) -> Path:
    """A copy of the same, index and all."""
    return shutil.copytree(indexed, tmp_path / "photos")


def test_search_by_several_terms_in_their_order(cli: Cli, tiny_model: Path, several: Path) -> None:
    """Weights follow the command line, whatever kind a term is of; the scores are those of the same sum in Python."""
    first, second = several / "0.png", several / "1.png"
    terms = ("--minus", "a house", "--image", first, "--text", "a fish", "--minus-image", second)
    options = ("--weights", "1,0.5,2,0.25,0.125", "--model", tiny_model, "--json")
    said = cli("search", "a red star", several, *terms, *options).json
    weights = [term["weight"] for term in said["terms"]]
    assert weights == [1, -0.5, 2, 0.25, -0.125]
    assert [next(iter(term)) for term in said["terms"]] == ["text", "text", "picture", "text", "picture"]
    query = diptych.Query.text("a red star") - 0.5 * diptych.Query.text("a house") + 2 * diptych.Query.image(first)
    query = query + 0.25 * diptych.Query.text("a fish") - 0.125 * diptych.Query.image(second)
    model = diptych.load(tiny_model)
    expected = model.embed_images([hit["path"] for hit in said["hits"]]) @ query.embed(model)
    assert [hit["score"] for hit in said["hits"]] == pytest.approx(expected.tolist(), abs=5e-3)


def test_search_without_words(cli: Cli, tiny_model: Path, several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another term, a lone word that is a folder is FOLDER; without, a text is missing."""
    monkeypatch.chdir(several.parent)
    said = cli("search", "--image", several / "1.png", "photos", "--model", tiny_model, "--paths")
    assert said.out.splitlines()[0] == "photos/1.png"
    assert len(said.out.splitlines()) == 3
    said = cli("search", "photos", "--model", tiny_model, "--json")
    assert (said.code, said.out) == (USAGE, "")
    assert "photos is a folder. Add a text to search for" in said.err
    said = cli("search", "--text", "photos", "photos", "--model", tiny_model, "--json")
    assert said.json["terms"] == [{"text": "photos", "weight": 1}]


def test_search_reads_stdin(cli: Cli, tiny_model: Path, several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bring(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    bring(b"a red star\n\n a fish \n")
    said = cli("search", "-", several, "--model", tiny_model, "--json")
    assert [term["text"] for term in said.json["terms"]] == ["a red star", "a fish"]
    for arguments in (("-",), ("--image", "-")):
        bring((several / "below" / "2.png").read_bytes())
        said = cli("search", *arguments, several, "--model", tiny_model)
        assert said.out.splitlines()[0].endswith("2.png")
        assert said.out.startswith(" 1.000")
    bring(b"  ")
    assert "stdin is empty" in cli("search", "-", several, "--model", tiny_model).err
    assert "- (stdin) is given twice" in cli("search", "-", several, "--image", "-").err


def test_search_reads_the_clipboard(
    cli: Cli, tiny_model: Path, several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the program that is there; without one it says what to install."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    said = cli("search", "--clipboard", several, "--model", tiny_model)
    assert said.code == FAILED
    assert "Install wl-clipboard (Wayland) or xclip (X11)" in said.err
    tool = tmp_path / "xclip"
    tool.write_text(f'#!/bin/sh\ncase "$*" in *image/png*) exec /bin/cat {several}/1.png;; esac\n')
    tool.chmod(0o755)
    said = cli("search", "--clipboard", several, "--model", tiny_model)
    assert said.out.splitlines()[0].endswith(f"{several}/1.png")
    tool.write_text('#!/bin/sh\ncase "$*" in *image/png*) exit 1;; esac\necho a red star\n')
    said = cli("search", "--clipboard", several, "--model", tiny_model, "--json")
    assert said.json["terms"] == [{"text": "a red star", "weight": 1}]
    tool.write_text("#!/bin/sh\nexit 1\n")
    said = cli("search", "--clipboard", several, "--model", tiny_model)
    assert "the clipboard has neither a picture nor text, according to xclip" in said.err


def test_search_terms_and_filters_that_make_no_sense(cli: Cli, tmp_path: Path) -> None:
    for options, message in [
        (("--weights", "1,2"), "--weights has 2 numbers for 1 terms; wanted one per term, in order"),
        (("--weights", "a"), "wanted numbers separated by commas"),
        (("--weights", "-1"), "wanted numbers above 0 (--minus makes a term negative)"),
        (("--since", "May"), "--since May is not a date"),
        (("--box", "1,2,3"), "--box 1,2,3; wanted SOUTH,WEST,NORTH,EAST in degrees"),
        (("--orientation", "tall"), "'tall' is not one of"),
        (("--text", " "), "TEXT is empty"),
    ]:
        said = cli("search", "a dog", tmp_path, *options)
        assert (said.code, said.out) == (USAGE, ""), options
        assert message in said.err
    assert not (tmp_path / ".diptych").exists()


def test_a_phones_pictures_are_asked_with_and_shown(cli: Cli, tiny_model: Path, several: Path) -> None:
    """HEIC is read wherever a picture is, not by the index alone. In a process of its own, which has read none yet."""
    script = (
        "import sys, pillow_heif; from PIL import Image\n"
        "pillow_heif.from_pillow(Image.new('RGB', (64, 64), 'red')).save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", script, several / "phone.heic"], check=True)
    arguments = ("search", several, "--image", several / "phone.heic", "--model", tiny_model, "--limit", 1)
    done = subprocess.run(
        [sys.executable, "-m", "diptych", *map(str, arguments), "--show-input", several / "shown.png"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == OK, done.stderr
    assert "phone.heic" in done.stdout
    assert (several / "shown.png").exists()


def test_a_hit_that_is_gone_is_not_shown(cli: Cli, tiny_model: Path, several: Path) -> None:
    arguments = ("search", "a star", several, "--model", tiny_model)
    assert cli(*arguments).code == OK
    (several / "0.png").unlink()
    said = cli(*arguments, "--no-update", "--show-input", several / "shown.png")
    assert said.code == OK
    assert "not shown: " in said.err
    assert (several / "shown.png").exists()


def test_a_sentence_that_is_too_long_for_a_file_name(
    cli: Cli, tiny_model: Path, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(several)
    said = cli("search", "star " * 60, "--minus", "snow", "--truncate", "--model", tiny_model)
    assert said.code == OK, said.err


def test_search_in_texts_and_with_filters(cli: Cli, tiny_model: Path, several: Path) -> None:
    arguments = ("search", "a red house", several, "--model", tiny_model, "--json")
    texts = cli(*arguments, "--find", "texts").json["hits"]
    assert {(hit["text"], hit["line"]) for hit in texts} == {("The house is red.", 1), ("A blue star above it.", 3)}
    assert len(cli(*arguments, "--find", "both").json["hits"]) == 5
    names = [Path(hit["path"]).name for hit in cli(*arguments, "--orientation", "portrait").json["hits"]]
    assert names == ["1.png"]
    assert [Path(hit["path"]).name for hit in cli(*arguments, "--path", "below/*").json["hits"]] == ["2.png"]
    said = cli(*arguments, "--camera", "Leica")
    assert (said.code, said.json["hits"]) == (NOTHING, [])
    assert "none of the 3 pictures in the index pass the filters" in said.err


def test_search_says_where_nothing_stands_out(cli: Cli, tiny_model: Path, several: Path) -> None:
    arguments = ("search", several, "--image", several / "0.png", "--model", tiny_model)
    few = cli(*arguments, "--relevant")
    assert (few.code, few.out) == (OK, cli(*arguments).out)
    assert "3 items are too few for --relevant" in few.err
    for seed in range(9):
        draw_scene(seed, size_px=64).image.save(several / f"more-{seed}.png")
    said = cli(*arguments, "--relevant")
    assert said.code == OK
    assert said.out.splitlines()[0].endswith(f"{several}/0.png")
    away = [word for path in several.rglob("*.png") for word in ("--minus-image", path)]
    said = cli("search", several, *away, "--model", tiny_model, "--relevant", "--json")
    assert (said.code, said.json["hits"]) == (NOTHING, [])
    assert said.json["standing"] < said.json["cut"]
    assert "Nothing relevant: the best match scores z = " in said.err


def test_search_for_xargs(cli: Cli, tiny_model: Path, several: Path) -> None:
    said = cli("search", "a star", several, "--model", tiny_model, "-0", "--limit", 2)
    assert said.out.endswith("\0")
    assert len(said.out.split("\0")) == 3
    assert all(Path(path).is_file() for path in said.out.split("\0")[:2])
    assert "\n" not in said.out


def test_search_looks_over_the_folder_first_or_not(
    cli: Cli, tiny_model: Path, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(several / ".diptych")
    arguments = ("search", "a star", several, "--paths", "--copies")
    said = cli(*arguments, "--no-update", "--model", tiny_model)
    assert (said.code, said.out) == (FAILED, "")
    assert "holds no index yet; leave out --no-update to make it" in said.err
    assert len(cli(*arguments, "--model", tiny_model).out.splitlines()) == 3
    (several / "0.png").rename(several / "new.png")
    shutil.copy(several / "1.png", several / "more.png")
    assert f"{several}/0.png" in cli(*arguments, "--no-update").out.splitlines()  # the model is the index's own
    assert len(cli(*arguments).out.splitlines()) == 4
    monkeypatch.setattr("diptych.cli.auto_update.MAX_SCANNED", 1)
    (several / "more.png").unlink()
    said = cli(*arguments)
    assert len(said.out.splitlines()) == 4
    assert re.search(r"index of 5 files, last updated \d{4}-\d\d-\d\d at \S+; --update looks for new ones", said.err)
    assert len(cli(*arguments, "--update").out.splitlines()) == 3


def test_search_shows_rows_with_previews(cli: Cli, tiny_model: Path, several: Path) -> None:
    said = cli("search", "a star", several, "--model", tiny_model, "--previews", "blocks")
    assert len(re.findall(r"\x1b\[38;2;\d+;\d+;\d+;48;2;\d+;\d+;\d+m▀", said.out)) > 3 * 8 * 5
    assert said.out.index("1\r") < said.out.index("score ") < said.out.index("2\r")
    assert said.out.count("score ") == 3


def test_search_opens_the_best(
    cli: Cli, tiny_model: Path, several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ("search", several, "--image", several / "1.png", "--model", tiny_model, "--open", 2)
    said = cli(*arguments)
    assert said.code == FAILED
    assert len(said.out.splitlines()) == 3
    assert "xdg-open is not installed" in said.err
    tool = tmp_path / "xdg-open"
    tool.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    tool.chmod(0o755)
    assert cli(*arguments).code == OK
    opened = (tmp_path / "opened").read_text().splitlines()
    assert opened[0] == f"{several}/1.png"
    assert len(opened) == 2
    (several / "1.png").write_text("#!/bin/sh\ntrue\n")  # under our hands
    (tmp_path / "opened").unlink()
    said = cli("search", "x", several, "--no-update", "--model", tiny_model, "--open", 3)
    assert "1.png is not a picture, video or text" in said.err
    assert f"{several}/1.png" not in (tmp_path / "opened").read_text()


def test_index_duplicates(cli: Cli, tiny_model: Path, several: Path) -> None:
    shutil.copy(several / "1.png", several / "copy of 1.png")
    with Image.open(several / "1.png") as picture:
        picture.resize((96, 128)).save(several / "large.png")
    assert cli("index", several, "--model", tiny_model).code == OK
    said = cli("index", "duplicates", several, "--json", "--threshold", 0.99)
    (group,) = said.json["groups"]
    assert [Path(copy["path"]).name for copy in group] == ["large.png", "1.png", "copy of 1.png"]
    assert "1 groups with 2 copies among 5 pictures" in said.err
    lines = cli("index", "duplicates", several, "--paths", "--threshold", 0.99).out.splitlines()
    assert lines == [f"{several}/1.png", f"{several}/copy of 1.png"]
    assert cli("index", "duplicates", several, "--threshold", 0.99).out.splitlines()[0].split()[:4] == [
        "1.000",
        "96",
        "x",
        "128",
    ]


# --- classify


def test_classify(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    arguments = ("classify", pictures, "--model", tiny_model, "--labels", "circle, star,house,star", "--top", 2)
    said = cli(*arguments, "--json")
    assert said.code == OK
    assert said.json["labels"] == ["circle", "star", "house"]
    assert len(said.json["pictures"]) == 8
    result = diptych.load(tiny_model).classify([said.json["pictures"][0]["path"]], said.json["labels"])
    shares = said.json["pictures"][0]["labels"]
    assert next(iter(shares)) == result.best[0]
    assert list(shares.values()) == pytest.approx(sorted(result.probabilities[0])[::-1][:2], abs=1e-5)
    line = cli(*arguments).out.splitlines()[0]
    assert re.fullmatch(r"\S+scene-7\.png  (\w+ \d+\.\d%  ){1}\w+ \d+\.\d%", line)


def test_classify_with_a_file_of_labels_and_templates(
    cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path
) -> None:
    labels, shown = tmp_path / "labels.txt", tmp_path / "shown.png"
    labels.write_bytes("\ufeffcircle\r\n\r\n  red star \r\n".encode())  # as an editor on Windows leaves it
    picture = sorted(pictures.glob("*.png"))[0]
    options = ("--template", "a {}", "--template", "{} there", "--json", "--show-input", shown)
    said = cli("classify", picture, "--labels-file", labels, "--model", tiny_model, *options)
    assert said.json["labels"] == ["circle", "red star"]
    expected = diptych.load(tiny_model).classify([picture], ["circle", "red star"], templates=["a {}", "{} there"])
    found = said.json["pictures"][0]["labels"]
    assert [found["circle"], found["red star"]] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-5)
    assert sum(found.values()) == pytest.approx(1)
    assert Image.open(shown).size == (176, 196)


def test_classify_class_folders(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """The folders' names are the labels and the answers; the numbers are those of the printed probabilities."""
    files = find_images(pictures)
    for at, path in enumerate(files):
        place = tmp_path / "set" / ("red_star", "hat", "boat")[at % 3] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    said = cli("classify", tmp_path / "set", "--model", tiny_model, "--json", "--templates", "general")
    assert said.json["labels"] == ["boat", "hat", "red star"]
    best = [max(row["labels"], key=row["labels"].get) for row in said.json["pictures"]]
    truth = [Path(row["path"]).parent.name.replace("_", " ") for row in said.json["pictures"]]
    right = [one == other for one, other in zip(best, truth, strict=True)]
    assert said.json["accuracy"]["top1"] == pytest.approx(100 * sum(right) / len(right))
    assert sum(pair["count"] for pair in said.json["accuracy"]["confusion"]) == len(files)
    plain = cli("classify", tmp_path / "set", "--model", tiny_model, "--labels", "boat,hat,Red star")
    assert f"% of {len(files)}; mean over classes" in plain.out.splitlines()[-1]
    wrong = [pair for pair in said.json["accuracy"]["confusion"] if pair["label"] != pair["taken_for"]]
    most = max(wrong, key=lambda pair: pair["count"])
    general = cli("classify", tmp_path / "set", "--model", tiny_model, "--templates", "general").out
    assert f"{most['label']} for {most['taken_for']} ({most['count']})" in general.partition("most often mistaken: ")[2]
    fitted = cli("classify", tmp_path / "set", "--model", tiny_model, "--calibrate", tmp_path / "set", "--json")
    assert "labelled pictures, in place of the model's" in fitted.err
    assert fitted.json["scale"] != pytest.approx(diptych.load(tiny_model).scale)
    assert cli("classify", tmp_path / "set", "--templates", "plain", "--template", "a {}").code == USAGE
    assert cli("classify", files[0].parent, "--model", tiny_model).code == USAGE  # neither labels nor folders


def _truths(said: Said) -> Counter[str]:
    """How many pictures are of each label, whatever they were taken for."""
    counts = Counter[str]()
    for pair in said.json["accuracy"]["confusion"]:
        counts[pair["label"]] += pair["count"]
    return counts


def test_class_folders_are_the_same_to_all_commands(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    """The outermost folders, whatever lies below; two of one spelling are one class, and said to be."""
    scenes = iter(Scenes(8, size_px=32))
    for kind in ("cat", "Sports_car", "sports car"):
        for place in ("indoor", "outdoor"):
            (tmp_path / "set" / kind / place).mkdir(parents=True)
            next(scenes).image.save(tmp_path / "set" / kind / place / "1.png")
    options = ("--model", tiny_model, "--json")
    classified = cli("classify", tmp_path / "set", *options)
    assert classified.json["labels"] == ["Sports car", "cat"]
    assert _truths(classified) == {"Sports car": 4, "cat": 2}
    probed = cli("probe", tmp_path / "set", *options)
    assert (probed.json["classes"], probed.json["judged_on"]) == (["Sports car", "cat"], 3)
    for said in (classified, probed):
        assert "'Sports_car' and 'sports car'" in said.err
    named = cli("classify", tmp_path / "set", "--labels", "cat,sports CAR", *options)
    assert _truths(named) == {"cat": 2, "sports CAR": 4}
    below = cli("classify", tmp_path / "set" / "cat", "--labels", "cat,dog", *options)
    assert _truths(below) == {"cat": 2}
    fitted = cli("classify", tmp_path / "set", "--calibrate", tmp_path / "set", *options)
    assert "labelled pictures" in fitted.err


def test_classify_is_not_calibrated_where_all_is_right(cli: Cli, tmp_path: Path) -> None:
    """No temperature is too low for pictures that are all right: by their word alone each answer would be certain."""
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64), name).save(tmp_path / name / "one.png")
    said = cli("classify", tmp_path, "--labels", "red,blue,Red", "--calibrate", tmp_path, "--json")
    assert said.json["labels"] == ["red", "blue"]  # folders are matched in any case
    assert said.json["accuracy"]["top1"] == 100
    assert said.json["scale"] == pytest.approx(diptych.load().scale)
    assert "all 2 labelled pictures are right already" in said.err
    assert "stays. Add harder ones" in said.err


def test_classify_each_label_by_itself(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    arguments = ("classify", pictures, "--model", tiny_model, "--labels", "star,hat", "--each", "--json")
    shares = [row["labels"] for row in cli(*arguments).json["pictures"]]
    assert any(abs(sum(row.values()) - 1) > 0.01 for row in shares)
    assert all(0 <= share <= 1 for row in shares for share in row.values())


def test_classify_by_the_places_of_a_picture(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = ("classify", pictures, "--model", tiny_model, "--labels", "star,hat,cup", "--json", "--top", "3")
    whole, places = cli(*arguments), cli(*arguments, "--places")
    readable = [row["path"] for row in places.json["pictures"]]
    model = diptych.load(tiny_model)
    wanted = model.classify(readable, ["star", "hat", "cup"], patches=True).probabilities
    said = [[row["labels"][name] for name in ("star", "hat", "cup")] for row in places.json["pictures"]]
    np.testing.assert_allclose(said, wanted, atol=0.02)  # decoded at a reduced size
    assert [row["path"] for row in whole.json["pictures"]] == readable
    assert whole.json["pictures"] != places.json["pictures"]
    each = cli(*arguments, "--places", "--each", "--calibrate", _of_classes(pictures, tmp_path / "set"))
    assert all(0 <= share <= 1 for row in each.json["pictures"] for share in row["labels"].values())


def _of_classes(pictures: Path, folder: Path) -> Path:
    files = sorted(path for path in pictures.rglob("*.png"))[:4]
    for path, name in zip(files, ("star", "hat", "cup", "star"), strict=False):
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name / path.name)
    return folder


def test_classify_without_pictures(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    said = cli("classify", tmp_path, "--labels", "cat", "--model", tiny_model, "--json")
    assert (said.code, said.json["pictures"]) == (NOTHING, [])
    assert f"no pictures in {tmp_path}" in said.err


# --- compare


def test_compare_as_json(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """A folder and one more picture, a text file and one more sentence."""
    texts, more = tmp_path / "captions.txt", tmp_path / "more.png"
    texts.write_text("a red star\n\ntwo dogs  \n", encoding="utf-8")
    Image.new("RGB", (50, 40), "green").save(more)
    said = cli("compare", pictures, texts, "--image", more, "--text", "grün", "--model", tiny_model, "--json")
    assert said.code == OK
    assert said.json["texts"] == ["a red star", "two dogs", "grün"]
    assert len(said.json["pictures"]) == 9
    assert said.json["pictures"][-1] == str(more)
    cosine, dot, euclidean = (np.array(said.json[name]) for name in ("cosine", "dot", "euclidean"))
    assert cosine.shape == (9, 3)
    np.testing.assert_allclose(dot, cosine, atol=1e-6)
    np.testing.assert_allclose(euclidean**2, 2 - 2 * cosine, atol=1e-6)
    model = diptych.load(tiny_model)
    np.testing.assert_allclose(cosine, model.similarity(said.json["pictures"], said.json["texts"]), atol=1e-6)


def test_compare_prints_tables_and_writes_pictures(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    plot, shown = tmp_path / "matrix.png", tmp_path / "shown.png"
    options = ("--text", "a dog costs $5 or $6", "--metric", "all", "--plot", plot, "--show-input", shown)
    said = cli("compare", pictures, "a red star", "--model", tiny_model, *options)
    assert said.code == OK
    assert [word for word in said.out.split() if word in ("cosine", "dot", "euclidean")] == [
        "cosine",
        "dot",
        "euclidean",
    ]
    assert said.out.count("below") == 3  # full paths, for one picture lies in a folder below
    assert len(re.findall(r"-?\d\.\d{3}\b", said.out)) == 3 * 8 * 2
    with Image.open(plot) as picture:
        assert picture.width > 3 * 150
        assert picture.height > 8 * 80
    assert Image.open(shown).format == "PNG"
    only = cli("compare", pictures, "a red star", "--model", tiny_model, "--metric", "euclidean")
    assert "cosine" not in only.out


def test_compare_of_many_long_sentences_loses_no_value(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    """Wider than the screen rather than cut off; long sentences are cut in the table's head alone."""
    more = [word for i in range(20) for word in ("--text", f"sentence {i} " + "on and on " * 3)]
    said = cli("compare", pictures / "below", "hill on a " * 6 + "far hill", *more, "--model", tiny_model)
    assert len(re.findall(r"-?\d\.\d{3}\b", said.out)) == 21
    assert said.out.count("scene-7.png") == 1


def test_compare_breaks_no_name_that_fits(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-picture-with-a-rather-long-name.png"
    Image.new("RGB", (40, 40), "red").save(tmp_path / name)
    more = [word for i in range(3) for word in ("--text", f"sentence {i} goes on and on for a while")]
    said = cli("compare", tmp_path, "a motorcycle in a garage", *more, "--model", tiny_model)
    assert name in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    said = cli("compare", tmp_path, "a motorcycle in a garage", *more[:2], "--model", tiny_model)
    assert name in said.out
    assert "motorcycle" in said.out


def test_compare_takes_names_as_they_are(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    """Nothing in a name or sentence is markup, emoji code or mathematics."""
    names = ["[bold]x.png", "[red] :dog:.png", "[link=x]y.png"]
    for name in names:
        Image.new("RGB", (40, 40), "red").save(tmp_path / name)
    text, plot = "[/bold] :dog: $x$", tmp_path / "matrix.pdf"
    said = cli("compare", tmp_path, text, "--model", tiny_model, "--plot", plot)
    assert said.code == OK
    assert all(name in said.out for name in (*names, text))
    assert plot.read_bytes().startswith(b"%PDF")
    said = cli("compare", tmp_path, "日本の犬", "--model", tiny_model, "--plot", plot)
    assert "日本の犬" in said.out
    assert said.err.splitlines()[-1] == f"wrote {plot}"
    assert "Warning" not in said.err


def test_compare_tells_equal_names_apart(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40), "red").save(tmp_path / folder / "x.png")
    said = cli("compare", tmp_path, "a dog", "--model", tiny_model)
    flat = re.sub(r"[\s│]", "", re.sub(r"-?\d\.\d{3}", "", said.out))
    assert f"{tmp_path}/a/x.png" in flat
    assert f"{tmp_path}/b/x.png" in flat


def test_compare_without_pictures(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    said = cli("compare", tmp_path, "a dog", "--model", tiny_model, "--json")
    assert (said.code, said.json["pictures"], said.json["texts"]) == (NOTHING, [], ["a dog"])
    assert f"no pictures in {tmp_path}" in said.err


# --- models, convert, train


def test_models(cli: Cli) -> None:
    said = cli("models", "--json")
    assert said.json["ViT-B/32"] == {"parameters": 151277313, "image_size_px": 224, "dimensions": 512}
    assert "length 1, so that dot equals cosine" in " ".join(cli("compare", "--help").out.split())
    table = cli("models")
    assert table.err.split() == ["architecture", "parameters", "picture", "vector"]
    lines = table.out.splitlines()
    assert len(lines) == len(said.json)
    assert any(re.fullmatch(r"ViT-B/32 +151\.3M +224 px +512 dimensions", line) for line in lines)


@pytest.mark.parametrize(("form", "name"), [("hf", "folder"), ("open_clip", "folder"), ("openai", "model.pt")])
def test_convert(cli: Cli, pictures: Path, tmp_path: Path, form: str, name: str) -> None:
    """From OpenAI's archive to each format, without a change in the vectors."""
    source, target = GOLDEN / "openai_vit" / "openai_vit.pt", tmp_path / name
    said = cli("convert", source, target, "--to", form, "--json")
    assert said.code == OK, said.err
    assert said.json == {"source": str(source), "target": str(target), "format": form}
    assert f"converted {source} to {form}" in said.err
    before, after = (diptych.load(path).embed_images([pictures / "scene-0.png"]) for path in (source, target))
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert cli("convert", source, tmp_path / "again").out == f"{tmp_path / 'again'}\n"


def test_train(cli: Cli, shards: Path, pictures: Path, tmp_path: Path) -> None:
    options = ("--epochs", 0.5, "--batch-size", 32, "--vocab-size", 700, "--precision", "fp32", "--threads", 1)
    arguments = ("--data", shards, "--val", shards, "--model", "vit-tiny", *options)
    said = cli("train", *arguments, "--out", tmp_path / "run", "--json")
    assert said.code == OK, said.err
    assert said.json["model"] == str(tmp_path / "run" / "model")
    assert said.json["loss"] > 0
    assert said.json["recall"].keys() == {"text_to_image", "image_to_text"}
    assert said.json["config"]["batch_size"] == 32
    assert "96 pictures · vit-tiny" in said.err
    own = ("--model", tmp_path / "run" / "model", "--index", tmp_path / "index")
    found = cli("search", "a red star", pictures, *own, "--limit", 1)
    assert (found.code, len(found.out.splitlines())) == (OK, 1)


# --- data


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are measured for a moment only."""
    monkeypatch.setattr("diptych.data.inspection.loader_rate", partial(loader_rate, seconds=0.1))
    monkeypatch.setattr(
        "diptych.training.diagnostics.throughput.training_rate", partial(training_rate, seconds=0.1, batch_size=8)
    )


@pytest.mark.usefixtures("hasty")
def test_data_inspect(cli: Cli, shards: Path, tmp_path: Path) -> None:
    sheet, plot = tmp_path / "sheet.png", tmp_path / "plot.png"
    arguments = ("data", "inspect", shards, "--image-size", 32, "--rate", 100)
    said = cli("data", "inspect", shards, "--image-size", 32, "--rate", 100, "--sheet", sheet, "--plot", plot)
    assert said.code == OK, said.err
    assert re.search(r"^samples +96, 96 usable$", said.out, re.M)
    assert re.search(r"^pictures +96 JPEG; short side 48 px$", said.out, re.M)
    assert re.search(r"^speed +[\d,]+ samples/s read at 32 px with 2 threads, 100 trained$", said.out, re.M)
    assert f"{shards}: tar shards" in said.err
    with Image.open(sheet) as picture:
        assert picture.size == (5 * 168 + 8, 4 * (168 + 6 + 4 * 14) + 8)
        assert len(np.unique(np.asarray(picture))) > 50
    with Image.open(plot) as picture:
        assert picture.width > 2 * picture.height
    said = cli(*arguments, "--limit", 12, "--workers", 1, "--json")
    assert (said.json["total"], said.json["looked"], said.json["usable"]) == (96, 12, 12)
    assert said.json["speed"]["workers"] == 1
    assert said.json["speed"]["times"] == pytest.approx(said.json["speed"]["loader"] / 100)
    assert said.json["failures"] == {}


@pytest.mark.usefixtures("hasty")
def test_data_inspect_reports_a_source_too_broken_to_be_timed(cli: Cli, tmp_path: Path) -> None:
    lines = ["image,caption", "good.png,fine", *(f"missing-{i}.png,gone" for i in range(300))]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    Image.effect_noise((40, 40), 60).save(tmp_path / "good.png")
    arguments = ("data", "inspect", tmp_path / "a.csv", "--image-size", 32, "--rate", 100)
    said = cli(*arguments)
    assert said.code == PARTLY
    assert re.search(r"^samples +301, 1 usable$", said.out, re.M)
    assert re.search(r"^speed +not measured \(50 samples in a row are unusable: .*\)$", said.out, re.M)
    said = cli(*arguments, "--json")
    assert (said.code, said.json["usable"], said.json["speed"]) == (PARTLY, 1, None)
    assert said.json["speed_reason"].startswith("50 samples in a row are unusable")


@pytest.mark.usefixtures("hasty")
def test_data_inspect_measures_training_and_names_what_is_broken(cli: Cli, tmp_path: Path) -> None:
    for index in range(3):
        Image.effect_noise((40, 40), 60).save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text("noise", encoding="utf-8")
    (tmp_path / "1.png").write_bytes(b"")
    options = ("--model", "vit-tiny", "--image-size", 32, "--device", "cpu")
    said = cli("data", "inspect", tmp_path, *options)
    assert said.code == PARTLY
    assert re.search(r"^broken +1\n +.*1\.png: It holds no bytes", said.out, re.M)
    assert re.search(r"^same caption +1 captions of two pictures or more\n +2 x noise$", said.out, re.M)
    assert re.search(r"vit-tiny at 32 px trains \d+ samples/s on cpu", said.err)
    assert "both share the processor" in said.out
    said = cli("data", "inspect", tmp_path, "--image-column", "x")
    assert (said.code, "has no columns" in said.err) == (FAILED, True)
    help_text = cli("data", "inspect", "--help").out
    assert "diptych data inspect pairs/train --sheet sheet.png" in help_text
    assert "--json" in help_text


def test_embed_writes_vectors(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    said = cli("embed", pictures, tmp_path / "out", "--model", tiny_model)
    assert (said.code, said.out) == (OK, f"{tmp_path / 'out'}\n")
    assert "8 pictures and 0 texts in 1 shards" in said.err
    assert np.load(tmp_path / "out" / "00000.npy").shape == (8, 64)


def test_a_wide_table_keeps_its_values(
    cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wider than the terminal rather than without some of its columns."""
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "captions.txt").write_text("\n".join(f"a star number {number}" for number in range(60)))
    said = cli("compare", pictures / "scene-0.png", tmp_path / "captions.txt", "--model", tiny_model)
    values = re.findall(r"-?\d\.\d{3}", said.out)
    assert len(values) == 60


def test_a_stray_picture_costs_the_accuracy_itself_alone(
    cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = _of_classes(pictures, tmp_path / "set")
    whole = cli("classify", folder, "--model", tiny_model, "--json").json["accuracy"]
    shutil.copy(pictures / "scene-5.png", folder / "stray.png")
    said = cli("classify", folder, "--model", tiny_model, "--labels", "star,hat,cup", "--json")
    told = [sum(pair["count"] for pair in each["confusion"]) for each in (said.json["accuracy"], whole)]
    assert told[0] == told[1]
    assert "1 pictures lie in no folder that is called as a label" in said.err
    refused = cli("classify", folder, "--model", tiny_model, "--labels", "star,hat", "--calibrate", folder)
    assert refused.code == USAGE
    assert f"{folder} has pictures in 'cup', which is no label; wanted folders called star, hat" in refused.err
    assert "left out" not in refused.err
