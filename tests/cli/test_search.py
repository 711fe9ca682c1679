"""`diptych search`: terms, filters, what is printed, written and opened."""

import io
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.cli import FAILED, NOTHING, OK, USAGE
from diptych.media.scanning.image_files import find_images
from diptych.scenes.scene import draw_scene
from tests.conftest import Cli


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
    for path, height in ((sheet, 28 + 2 * 202 + 8), (shown, 2 * 188 + 8)):  # a title, and two lines under each
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
    alone = cli(*arguments, "--relevant", "--path", "1.png")
    assert "1 item is too few for --relevant" in alone.err
    for seed in range(9):
        draw_scene(seed, size_px=64).image.save(several / f"more-{seed}.png")
    said = cli(*arguments, "--relevant")
    assert said.code == OK
    assert said.out.splitlines()[0].endswith(f"{several}/0.png")
    away = [word for path in several.rglob("*.png") for word in ("--minus-image", path)]
    said = cli("search", several, *away, "--model", tiny_model, "--relevant", "--json")
    assert (said.code, said.json["hits"]) == (NOTHING, [])
    assert said.json["standing"] < said.json["cut"]
    numbers = f"{math.floor(100 * said.json['standing']) / 100:.2f}; the threshold is {said.json['cut']}"
    assert f"Nothing relevant: the relevance of the best hits is {numbers} (change it with --threshold)." in said.err
    barely = cli("search", several, *away, "--model", tiny_model, "--threshold", said.json["standing"] + 1e-9)
    shown = re.search(r"is (-?[\d.]+); the threshold is (-?[\d.]+)", barely.err)
    assert barely.code == NOTHING
    assert shown
    assert float(shown[1]) < float(shown[2])
    lower = cli("search", several, *away, "--model", tiny_model, "--threshold", said.json["standing"] - 1, "--json")
    assert lower.code == OK
    assert lower.json["hits"]
    assert lower.json["cut"] == pytest.approx(said.json["standing"] - 1)
    assert cli("search", several, "a", "--threshold", "nan").code == USAGE


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


def test_words_that_the_model_never_saw_are_named(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "words.txt").write_text("red\nstars\n", encoding="utf-8")
    arguments = (shutil.copytree(pictures, tmp_path / "pictures"), "--model", model)
    assert cli("search", "a red star", *arguments, "--json").json["unseen_words"] == []
    some = cli("search", "a red quark", *arguments, "--json")
    assert (some.json["unseen_words"], some.json["all_unseen"]) == (["quark"], False)
    assert some.json["hits"]
    assert 'The model has never seen "quark" with a picture: it counts for little.' in some.err
    every = cli("search", "quark theory", *arguments)
    assert every.code == OK
    assert 'The model has never seen "quark" and "theory" with a picture: these hits are a guess.' in every.err
    none = cli("search", "quark theory", *arguments, "--relevant", "--json")
    assert (none.code, none.json["hits"], none.json["all_unseen"]) == (NOTHING, [], True)
    assert none.err.count("Nothing relevant: the model has never seen") == 1
    assert "unseen_words" not in cli("search", *arguments, "--image", pictures / "scene-0.png", "--json").json
