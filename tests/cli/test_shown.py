"""What each command writes to a terminal where files, captions, cameras, models and tables say anything at all."""

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from terminals import Terminal, strange, written_to_terminal

from diptych.cli import compare, doctor, evaluate, run
from diptych.cli.options import print_json, print_status, progress, report_failures
from diptych.cli.previews import Protocol
from diptych.cli.results import rows
from diptych.cli.terminal import write_paths
from diptych.failures import Failure
from diptych.index.doctor import Finding
from diptych.index.search.results import Hit
from diptych.scenes.scene import Scenes
from diptych.training.diagnostics.monitor import Monitor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no pseudo-terminals, or no such names of files")

HOSTILE = "[red]\x1b[31m\x1b]0;t\x07\x9b2J\n\r\t\u202eexe\u2066\u200b\u2028\U000e0041\udce9:smile:"
MODEL = f"model{HOSTILE}"
TEXTS = st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with a folder of pictures, a model, a table and a broken file, all called as nobody would."""
    root = tmp_path_factory.mktemp("hostile")
    for number, scene in enumerate(Scenes(3, size_px=48)):
        folder = root / "pictures" / f"class{HOSTILE}{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Maker\x1b[2J", "Model\u202e"
        exif[0x010E] = "a caption\x1b]52;c;AAAA\x07"
        scene.image.save(folder / f"{number}{HOSTILE}.jpg", exif=exif)
    broken = root / "pictures" / f"broken{HOSTILE}.jpg"
    broken.write_bytes(b"no picture \x1b[2J")
    (root / "pictures" / f"notes{HOSTILE}.txt").write_text("words\x1b[31m of\u202e a text", encoding="utf-8")
    model = root / MODEL
    shutil.copytree(tiny_model, model)
    bad = shutil.copytree(tiny_model, root / "bad")
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(config | {"model_type\x1b[2J\u202e": 1, "model_type": f"x{HOSTILE}"}))
    captions = [
        {"file_name": f"{HOSTILE}.jpg", "text": f"caption{HOSTILE}"},
        {"file_name": "gone\x1b[2J.jpg", "text": "a"},
    ]
    (root / "table").mkdir()
    (root / "table" / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in captions))
    for name in (f"{HOSTILE}.jpg", "other.jpg"):
        shutil.copy(next((root / "pictures").rglob("0*.jpg")), root / "table" / name)
    suite = "[[dataset]]\nname = {name}\nsource = {source}\ntasks = ['zero-shot']\ntemplates = 'plain'\n"
    named = {"name": json.dumps("set\x1b[2J\n[red]"), "source": json.dumps(str(root / "gone\x1b[2J"))}
    (root / "suite.toml").write_text(suite.format(**named))
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        ("index", "{pictures}", "--model", "{model}"),
        ("search", "a star\x1b[2J", "{pictures}", "--model", "{model}", "--find", "both", "--copies"),
        ("search", "a star", "{pictures}", "--model", "{model}", "-0"),
        ("search", "a star", "{pictures}", "--model", "{model}", "--json"),
        ("search", "a star", "{pictures}", "--model", "{model}", "--previews", "blocks"),
        ("search", "a star", "{root}/gone\x1b[2J\n"),
        ("search", "--image", "{root}/gone\x1b[2J", "{pictures}"),
        ("index", "duplicates", "{pictures}"),
        ("doctor", "{pictures}"),
        ("doctor", "--model", "{bad}"),
        ("classify", "{pictures}", "--model", "{model}"),
        ("classify", "{pictures}", "--model", "{model}", "--labels", "a\x1b[2J,[red]b\u202e"),
        ("compare", "{pictures}", "[red]a star\x1b[2J\u202e", "--model", "{model}"),
        ("locate", "{picture}", "a star\x1b[2J", "--model", "{model}"),
        ("difference", "{picture}", "{picture}", "--words", "a\x1b[2J,b", "--model", "{model}"),
        ("data", "inspect", "{root}/table", "--rate", "100", "--image-size", "32", "--limit", "4"),
        ("embed", "{pictures}", "{root}/out\x1b[2J", "--model", "{model}"),
        ("convert", "{model}", "{root}/to\x1b[2J"),
        ("convert", "{bad}", "{root}/elsewhere"),
        ("evaluate", "--suite", "{root}/suite.toml", "--out", "{root}/results\x1b[2J", "{model}", "{bad}"),
        ("evaluate", "--compare", "{root}/a\x1b[2J", "{root}/b"),
        (
            "train",
            "--data",
            "{root}/table",
            "--out",
            "{root}/run\x1b[2J",
            "--init",
            "{model}",
            "--epochs",
            "1",
            "--batch-size",
            "2",
            "--device",
            "cpu",
            "--val",
            "{root}/table",
            "--set",
            "max_bad=1",
        ),
        ("train", "--data", "{root}/gone\x1b[2J\u202e"),
        ("no\x1b[2Jsuch\u202e",),
        ("search", "--no\x1b[2J\u202e"),
        ("models",),
    ],
    ids=lambda arguments: " ".join(arguments[:2]).encode("ascii", "backslashreplace").decode(),
)
def test_a_terminal_gets_text(hostile: Path, arguments: tuple[str, ...]) -> None:
    names = {
        "root": str(hostile), "pictures": str(hostile / "pictures"), "model": str(hostile / MODEL),
        "bad": str(hostile / "bad"), "picture": str(next((hostile / "pictures").rglob("0*.jpg"))),
    }  # fmt: skip
    codes = []
    said = written_to_terminal(lambda: codes.append(run([each.format(**names) for each in arguments])))
    assert said.strip()
    assert not strange(said), ascii(said)
    assert "Traceback" not in said


def said_of(call: Callable[[], object]) -> str:
    """What it writes, to stdout and stderr, which both are a terminal."""
    terminal = Terminal()
    with redirect_stdout(terminal), redirect_stderr(terminal):
        call()
    return terminal.getvalue()


@given(TEXTS, TEXTS, TEXTS, st.sampled_from(["none", "blocks", "kitty", "sixel"]))
def test_rows_of_hits(path: str, camera: str, text: str, protocol: Protocol) -> None:
    """Whatever a catalog says of the files that are found."""
    hits = [
        Hit(Path("a") / path, 0.5, None, camera=camera, taken_at=text, text=text, kind="text", line=3),
        Hit(Path(path), 0.4, 1.0, caption=text, at_s=61.0, copies=(Path(path),), kind="video"),
    ]
    assert not strange(said_of(lambda: rows(hits, protocol)).replace("\x1b7", "").replace("\x1b8", ""))


@given(TEXTS)
def test_lines(text: str) -> None:
    """Whatever an error, a finding, an evaluation or a bar says."""
    row = {"dataset": text, "task": "probe", "metrics": {}, "failures": {text: 1}, "seconds": 1.0, "count": 3,
           "model": text, "error": text, "details": {"said": text, "left_out": [text]}}  # fmt: skip

    def call() -> None:
        report_failures({"a": Failure(text, text)})
        doctor._print({text: text}, [Finding(text, text)])
        evaluate._print_row(row)
        evaluate._print([row])
        write_paths([text], nul=True)
        print_json({text: [text]})
        with progress(f"[bold]{text}") as advance:
            print_status(text)
            advance(1, 2)

    said = said_of(call)
    assert not strange(said)
    assert "[bold]" in said


@given(TEXTS)
def test_a_table_of_names_and_sentences(text: str) -> None:
    said = said_of(lambda: compare._print_tables({"cosine": np.ones((1, 1))}, [text], [f"[red]{text}"]))
    assert not strange(said)
    assert "[red]" in said


@given(TEXTS)
def test_lines_of_training(text: str) -> None:
    """What a run says of its data, models and folders."""

    def call() -> None:
        with Monitor(Path("nowhere")) as monitor:  # it writes nothing before it has numbers
            sys.stderr.write(f"{text}\n")  # another library
            monitor.log(text, f"[red]{text}")

    said = said_of(call)
    assert not strange(said)
    assert "[red]" in said
