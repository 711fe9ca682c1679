"""The command line on bad input: each with a message that says what to do, the rest unharmed, the exit code right."""

import pickle
import re
import shutil
import struct
import zlib
from pathlib import Path

import click
import pytest
from PIL import Image

from diptych.cli import FAILED, INTERRUPTED, NOTHING, OK, PARTLY, USAGE, diptych, run
from diptych.cli.wording import message_of
from diptych.errors import ArgumentError, DataError, DiptychError, ImageError, Setting
from tests.conftest import GOLDEN, Cli, Said

LONG = "dog " * 5000
BAD = {
    "text.jpg": "text.jpg: not an image. Wanted JPEG, PNG",
    "cut.jpg": "cut.jpg: truncated. It ends too early; copy or download it again.",
    "zero.png": "zero.png: empty file. It has no bytes",
    "huge.png": "huge.png: too large. ",
}


def png(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel, small whatever its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj()
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A folder of one good picture and four that cannot be used."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copy(pictures / "scene-0.png", folder / "good.png")
    (folder / "text.jpg").write_text("not a picture at all\n" * 20)
    Image.effect_noise((200, 200), 60).convert("RGB").save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:9000])
    (folder / "zero.png").touch()
    (folder / "huge.png").write_bytes(png(30_000, 30_000))
    return folder


@pytest.fixture(scope="module")
def mute_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("mute") / "mute"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("tokenizer.json"))
    return folder


# --- pictures


def arguments_of(name: str, pictures: object) -> tuple[object, ...]:
    """The plainest call of each command that reads pictures."""
    return {
        "search": ("search", "a dog", pictures),
        "classify": ("classify", pictures, "--labels", "cat,dog"),
        "compare": ("compare", pictures, "a dog"),
    }[name]


def named(said: Said) -> str:
    """What a command with --json names first."""
    result = said.json
    first = (result.get("hits") or result["pictures"])[0]
    return first if isinstance(first, str) else first["path"]


@pytest.mark.parametrize("name", ["search", "classify", "compare"])
def test_bad_pictures_cost_themselves_alone(cli: Cli, tiny_model: Path, mixed: Path, name: str) -> None:
    said = cli(*arguments_of(name, mixed), "--model", tiny_model, "--json")
    assert said.code == PARTLY
    assert named(said) == str(mixed / "good.png")
    assert "left out 4: " in said.err
    assert {Path(path).name for path in said.json["failures"]} == BAD.keys()
    for file, message in BAD.items():
        assert message in said.err
        assert message in said.json["failures"][str(mixed / file)]
    assert cli(*arguments_of(name, mixed), "--model", tiny_model).out.count("good.png") == 1


@pytest.mark.parametrize("name", ["search", "classify", "compare"])
def test_nothing_but_bad_pictures(cli: Cli, tiny_model: Path, tmp_path: Path, name: str) -> None:
    for i in range(7):
        (tmp_path / f"{i}.jpg").write_text("no")
    said = cli(*arguments_of(name, tmp_path), "--model", tiny_model, "--json")
    assert said.code == FAILED
    assert len(said.json["failures"]) == 7
    assert "left out 7: 7 not an image" in said.err
    assert "and 2 more (--json lists all)" in said.err


def test_a_folder_that_is_not_there(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    said = cli("search", "a dog", gone, "--model", tiny_model)
    assert said.code == USAGE
    assert f"Directory '{gone}' does not exist" in said.err
    for name in ("classify", "compare"):
        said = cli(*arguments_of(name, gone), "--model", tiny_model)
        assert (said.code, said.out) == (FAILED, "")
        assert f"{gone}: missing. There is no such file; check the path." in said.err


def test_a_sentence_without_its_quotes(cli: Cli, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    for words in (("a", "red", "star", "photos"), ("red", "star"), ("red", "below", "star")):
        said = cli("search", *words)
        assert (said.code, said.out) == (USAGE, "")
        assert 'Put a sentence of several words in quotes: diptych search "a red star" photos/' in said.err
    assert "quotes" not in cli("search", "red", "--nonsense").err


def test_a_missing_picture_among_others(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    good, gone = pictures / "scene-0.png", tmp_path / "gone.png"
    said = cli("classify", good, gone, "--labels", "cat,dog", "--model", tiny_model)
    assert said.code == PARTLY
    assert said.out.startswith(str(good))
    assert f"{gone}: missing" in said.err


def test_nothing_found_and_partly_failed_are_not_mixed_up(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    """An empty folder beside a picture that is missing: something failed."""
    said = cli("classify", tmp_path, "--labels", "a", "--model", tiny_model)
    assert said.code == NOTHING
    said = cli("classify", tmp_path, tmp_path / "gone.png", "--labels", "a", "--model", tiny_model)
    assert said.code == FAILED


# --- texts


def test_empty_query(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    for text in ("", "  "):
        said = cli("search", text, pictures, "--model", tiny_model)
        assert (said.code, said.out) == (USAGE, "")
        assert "TEXT is empty; describe in a word or more what to look for" in said.err
        said = cli("compare", pictures, text, "--model", tiny_model)
        assert (said.code, said.out) == (FAILED, "")
        assert "text 0 is empty; expected at least one word" in said.err


def test_a_query_of_5000_words(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    arguments = ("search", LONG, pictures, "--model", tiny_model)
    said = cli(*arguments)
    assert (said.code, said.out) == (FAILED, "")
    assert re.search(r"\d{4,5} tokens in text 0 \('dog dog.*this model reads 40\. Pass --truncate to cut\.", said.err)
    said = cli(*arguments, "--truncate")
    assert (said.code, len(said.out.splitlines())) == (OK, 8)
    assert "cut 1 of 1 texts to the model's 40 tokens" in said.err


def test_bad_lines_of_a_text_file_are_left_out(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    texts = tmp_path / "captions.txt"
    texts.write_text(f"a red star\n{LONG}\na dog\n", encoding="utf-8")
    arguments = ("compare", pictures, texts, "--text", " ", "--model", tiny_model)
    said = cli(*arguments, "--json")
    assert said.code == PARTLY
    assert said.json["texts"] == ["a red star", "a dog"]
    assert len(said.json["cosine"][0]) == 2
    assert said.json["failures"].keys() == {"text 1", "text 3"}
    assert "left out 2: " in said.err
    assert re.search(r"tokens in text 1 \('dog dog.*Pass --truncate to cut", said.err)
    assert "text 3 is empty" in said.err
    said = cli(*arguments, "--truncate")
    assert said.code == PARTLY
    assert "cut 1 of 3 texts" in said.err
    assert said.out.count("dog dog dog") < 6  # the table's head does not repeat all of it


def test_labels_that_do_not_work(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    picture, empty = pictures / "scene-0.png", tmp_path / "empty.txt"
    empty.write_text("\n \n")
    for options, code, message in [
        ((), USAGE, "no labels. Pass --labels cat,dog or --labels-file FILE"),
        (("--labels", " ,"), USAGE, "no labels."),
        (("--labels-file", empty), USAGE, "no labels."),
        (("--labels", "a", "--labels-file", empty), USAGE, "labels are given twice"),
        (("--labels-file", tmp_path / "gone.txt"), USAGE, "gone.txt' does not exist"),
        (
            ("--labels-file", picture),
            FAILED,
            f"{picture} is not UTF-8 text; wanted a text file with one entry per line",
        ),
        (("--labels", "a", "--template", "a photo"), USAGE, "'a photo' has no {} for the label"),
        (("--labels", f"a,{LONG}"), FAILED, "this model reads 40. Pass --truncate to cut"),
    ]:
        said = cli("classify", picture, *options, "--model", tiny_model)
        assert (said.code, said.out) == (code, "")
        assert message in said.err
    said = cli("classify", picture, "--labels", f"a,{LONG}", "--model", tiny_model, "--truncate")
    assert said.code == OK
    assert "cut 1 of 2 texts" in said.err


def test_texts_that_are_something_else(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """A folder, a picture, a file that is not there or holds nothing: no sentence is made of them."""
    picture, empty = pictures / "scene-0.png", tmp_path / "empty.txt"
    empty.write_text("\n")
    for texts, code, message in [
        (pictures, USAGE, f"TEXTS is the folder {pictures}; expected a sentence or a text file after IMAGES."),
        (picture, FAILED, f"{picture} is not UTF-8 text"),
        (tmp_path / "gone.txt", USAGE, f"there is no text file {tmp_path / 'gone.txt'}; check the path"),
        (empty, FAILED, f"{empty} contains no sentence; expected one per line"),
    ]:
        said = cli("compare", picture, texts, "--model", tiny_model)
        assert (said.code, said.out) == (code, "")
        assert message in said.err


# --- models, devices, places to write


def test_model_without_its_tokenizer(cli: Cli, mute_model: Path, pictures: Path, tmp_path: Path) -> None:
    for name in ("search", "classify", "compare"):
        place = ("--index", tmp_path / "index") if name == "search" else ()
        said = cli(*arguments_of(name, pictures), "--model", mute_model, *place)
        assert (said.code, said.out) == (FAILED, "")
        assert f"{mute_model} has no tokenizer.json, so it can read pictures but not text" in said.err
        assert "Put there the tokenizer.json" in said.err


def test_models_and_devices_that_are_none(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    for options, message in [
        (("--model", "nonsense"), "nonsense is not a file, a folder or a hub id"),
        (("--model", "vit-tiny"), "vit-tiny is the name of an architecture, which has no weights"),
        (("--model", pictures), f"{pictures} has neither config.json nor"),
        (
            ("--model", tiny_model, "--device", "nonsense"),
            "device 'nonsense' is not known; choose one of cuda, mps, cpu",
        ),
        (("--model", tiny_model, "--activation", "quick_gelu"), "was requested, but the model was trained with gelu"),
    ]:
        said = cli("search", "a dog", pictures, *options)
        assert (said.code, said.out) == (FAILED, "")
        assert said.err.startswith("diptych: ")
        assert message in said.err
    said = cli("convert", "nonsense", tmp_path / "x")
    assert (said.code, said.out) == (FAILED, "")
    assert not (tmp_path / "x").exists()
    bare = tmp_path / "model.safetensors"
    bare.write_bytes((GOLDEN / "openclip_odd_heads" / "open_clip_model.safetensors").read_bytes())
    said = cli("convert", bare, tmp_path / "x")
    assert said.code == FAILED
    assert "Pass --activation quick_gelu or --activation gelu" in said.err


@pytest.mark.parametrize(
    ("name", "option", "place", "why"),
    [
        ("search", "--sheet", "gone/x.png", "no such file or directory"),
        ("search", "--show-input", "file.txt/x.png", "not a directory"),
        ("classify", "--show-input", "x.nonsense", "unknown file extension"),
        ("compare", "--plot", "gone/x.png", "no such file or directory"),
        ("compare", "--plot", "matrix", "its name has no extension"),
        ("compare", "--plot", "x.nonsense", "'nonsense' is not supported"),
    ],
)
def test_pictures_that_cannot_be_written(
    cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path, name: str, option: str, place: str, why: str
) -> None:
    """The results are printed all the same."""
    (tmp_path / "file.txt").touch()
    said = cli(*arguments_of(name, pictures), "--model", tiny_model, option, tmp_path / place)
    assert said.code == FAILED
    assert said.out.count("scene-") == 8
    assert f"{tmp_path / place} cannot be written (" in said.err
    assert why in said.err.lower()
    assert "The results above are complete. Name a file that ends in .png" in said.err
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file.txt"]


def test_train_on_what_is_no_data(cli: Cli, shards: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    for options, code, message in [
        ((), USAGE, "pass the training data with --data"),
        (("--data", tmp_path / "gone"), FAILED, "is neither a folder, nor a file, nor a pattern"),
        (
            ("--data", shards, "--model", "nonsense"),
            USAGE,
            "no preset is called 'nonsense'; `diptych models` lists all",
        ),
        (("--data", shards, "--batch-size", 1), USAGE, "--batch-size is 1; wanted 2 or more"),
        (("--data", shards, "--zero-shot", "x"), USAGE, "--zero-shot is for fine-tuning. Pass --init MODEL"),
        (("--data", shards, "--recipe", "finetune"), USAGE, "--recipe finetune needs --init"),
        (("--data", shards, "--lr", 1, "--set", "lr=2"), USAGE, "--lr and --set lr are the same setting; give it once"),
        (("--data", shards, "--epochs", 1, "--minutes", 1), USAGE, "epochs and minutes are both lengths"),
        (("--data", shards, "--set", "epochs=1", "--minutes", 1), USAGE, "epochs and minutes are both lengths"),
        (("--data", shards, "--set", "init=x", "--set", "context=8"), USAGE, "the model of --init has its own context"),
        (("--data", shards, "--recipe", "openai", "--set", "init=/gone"), FAILED, "/gone"),
        (("--data", shards, "--epochs", 1, "--set", "minutes=none", "--device", "no"), FAILED, "device 'no'"),
        (("--data", shards, "--activation", "gelu"), USAGE, "--activation is that of the weights"),
        (
            ("--data", shards, "--init", "x", "--set", "context=8"),
            USAGE,
            "the model of --init has its own context; leave it out",
        ),
        (("--data", shards, "--shard"), USAGE, "Pass --set optimizer=adamw"),
        (("--data", shards, "--scenes", 2), USAGE, "--scenes is 2.0; wanted 0 or more and under 1"),
        (
            ("--data", shards, "--init", "x", "--model", "y"),
            USAGE,
            "the model of --init has its own model; leave it out",
        ),
        (("--data", shards, "--device", "nonsense"), FAILED, "device 'nonsense' is not known"),
    ]:
        said = cli("train", *options, *out)
        assert (said.code, said.out) == (code, "")
        assert message in said.err


def test_words_that_are_no_command_or_option(cli: Cli, pictures: Path) -> None:
    for arguments, message in [
        (("serch", "a dog"), "there is no command 'serch'. Did you mean: diptych search"),
        (
            ("search", "--image", "missing.jpg"),
            "'missing.jpg' is not a file; --image and --minus-image take a path",
        ),
        (("search",), "nothing to look for. Pass TEXT, --text, --image FILE or --clipboard"),
        (("search", "a dog", pictures, "--limit", "0"), "0 is not in the range"),
        (("search", "a dog", pictures, "--diverse", "3"), "3.0 is not in the range 0<=x<=1"),
        (("search", "a dog", pictures, "--path", "[z-a]"), "--path: '[z-a]' is no pattern"),
        (("search", "a dog", pictures, "--since", "May"), "--since May is not a date"),
        (("search", "a dog", pictures, "--since", "2025", "--until", "2024"), "--since 2025 is after --until 2024"),
        (("search", "a dog", pictures, "--box", "1,2"), "--box 1,2; wanted SOUTH,WEST,NORTH,EAST"),
        (("index", pictures, "--exclude", "[z-a]"), "'--exclude': '[z-a]' is no pattern"),
        (("search", "a dog", pictures, "--nonsense"), "No such option"),
        (("compare", pictures, "a dog", "--metric", "x"), "'x' is not one of 'cosine', 'dot', 'euclidean', 'all'"),
        (("convert", "a", "b", "--to", "x"), "'x' is not one of 'hf', 'open_clip', 'openai'"),
    ]:
        said = cli(*arguments)
        assert (said.code, said.out) == (USAGE, "")
        assert message in said.err


# --- what happens to the program


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("index", "--reindex, image_column=NAME, precision='fp16', batch_size."),
        ("search", "diptych index FOLDER --reindex, image_column=NAME, precision='fp16', batch_size."),
        ("train", "diptych index FOLDER --reindex, --image-column NAME, --precision fp16, --batch-size."),
    ],
)
def test_each_face_words_the_arguments_of_an_error_itself(command: str, said: str) -> None:
    reindex, column = Setting("reindex", True, "index.update"), Setting("image_column", "NAME")
    precision, batch_size = Setting("precision", "fp16"), Setting("batch_size")
    error = DiptychError("It is so.", remedy=[reindex, ", ", column, ", ", precision, ", ", batch_size, "."])
    in_python = "index.update(reindex=True), image_column=NAME, precision='fp16', batch_size."
    assert str(error) == f"It is so. {in_python}"
    assert message_of(error, diptych.get_command(click.Context(diptych), command)) == f"It is so. {said}"


def test_settings_of_a_run_that_have_no_flag_are_set() -> None:
    train = diptych.get_command(click.Context(diptych), "train")
    assert message_of(ArgumentError([Setting("optimizer", "adamw")]), train) == "--set optimizer=adamw"


def test_a_name_with_braces_or_an_equals_sign_stays_as_it_is() -> None:
    error = ImageError("missing", "truncate=True {x}.jpg", "There is no such file; check the path.")
    assert message_of(error) == str(error) == "truncate=True {x}.jpg: missing. There is no such file; check the path."


@pytest.mark.parametrize(
    "error",
    [
        ImageError("missing", "a.jpg", "There is no such file."),
        DataError("a row is broken.", "broken", remedy=["Set ", Setting("workers", 0), "."]),
        ArgumentError(["x ", Setting("truncate", True)], remedy="Leave it out.", argument="truncate"),
    ],
)
def test_errors_survive_a_process_boundary(error: DiptychError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.argument, again.remedy) == (
        type(error), str(error), error.argument, error.remedy,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (KeyboardInterrupt(), INTERRUPTED, "diptych: interrupted"),
        (MemoryError(), FAILED, "diptych: out of memory (none is left); close other programs."),
        (PermissionError(13, "Permission denied", "/x/y"), FAILED, "diptych: /x/y: permission denied."),
        (OSError(28, "No space left"), FAILED, "diptych: the disk is full; make room on it, then repeat the command."),
        (FloatingPointError("the loss became nan"), FAILED, "diptych: the loss became nan"),
        (ValueError(), FAILED, "diptych: ValueError"),
    ],
)
def test_errors_are_one_line(
    cli: Cli, tiny_model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch,
    raised: BaseException, code: int, message: str,
) -> None:  # fmt: skip
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("diptych.index.search.search.search_all", fail)
    said = cli("search", "a dog", pictures, "--model", tiny_model)
    assert (said.code, said.out) == (code, "")
    assert said.err.strip().splitlines()[-1] == message


def test_a_mistake_of_ours_keeps_its_traceback(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.embedder.load", lambda *_, **__: None)
    with pytest.raises(AttributeError):
        run(["search", "a dog", str(pictures)])


def test_classify_says_what_is_odd_about_its_labels(cli: Cli, tiny_model: Path, pictures: Path) -> None:
    gone = cli("classify", "classes/", "--model", tiny_model)
    assert gone.code == USAGE
    assert "classes/ does not exist, and there are no labels" in gone.err
    one = cli("classify", pictures, "--labels", "cat", "--model", tiny_model)
    assert "'cat' is the only label and always gets 100 %: pass several labels, or --multi-label" in one.err
    assert "one label" not in cli("classify", pictures, "--labels", "cat", "--multi-label", "--model", tiny_model).err
    unknown = cli("classify", pictures, "--labels", "cat", "--templates", "nope", "--model", tiny_model)
    assert (unknown.code, "there is no set of templates 'nope'" in unknown.err) == (USAGE, True)
