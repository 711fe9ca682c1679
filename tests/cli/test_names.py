"""Names of files as they are printed: whole for programs, harmless for people."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import diptych
from diptych.cli import OK
from diptych.cli.names import escaped_json, quoted
from diptych.cli.results import rows
from diptych.index.search.results import Hit
from tests.conftest import Cli

LETTERS = st.text(
    st.sampled_from("ab '\"\\$`!*\n\t\r\x00\x1b\x7f\x9b\u2028\u202eé犬\udc9b\udce9").filter(str.strip), max_size=12
)
ESCAPE = "esc\x1b[31mred\n.png"


def test_a_name_is_as_it_is_where_that_is_harmless() -> None:
    for name in ("a b.png", "it's.png", "a\\b$c`d`.png", "犬é.png", "z\u200dw.png", "caf\udce9.png", "~", "-a"):
        assert quoted(name) == name
    assert quoted(Path("p/a.png")) == "p/a.png"


@pytest.mark.parametrize("name", ["a\nb", "\nb", "a\x1b[31mred", "del\x7f", "c1\x9b31m", "tab\tx", '"dq"', "\x01\x022"])
def test_an_odd_name_is_quoted_as_ls_does(name: str, tmp_path: Path) -> None:
    ls = shutil.which("ls")
    said = subprocess.run([ls or "false", "--version"], capture_output=True).stdout
    if b"GNU coreutils" not in said:
        pytest.skip("no GNU ls here")
    (tmp_path / name).touch()
    command = [str(ls), "--quoting-style=shell-escape", "-1"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, env={"LC_ALL": "C.UTF-8"}).stdout
    assert quoted(name) + "\n" == listed.decode()


@pytest.fixture(scope="module")
def bash() -> str:
    return shutil.which("bash") or pytest.skip("no bash here")


def test_bash_reads_an_odd_name_as_it_is(bash: str) -> None:
    names = [
        "'",
        "'q'",
        "it's\n",
        "\n'",
        "x'$\n",
        "caf\udce9\n",
        "\x1b]0;t\x07",
        "\u202egpj.exe",
        "a\\\n\\033",
        '"',
        "\r",
    ]
    words = " ".join(map(quoted, names))
    said = subprocess.run([bash, "-c", os.fsencode(f"printf '%s\\0' {words}")], capture_output=True, check=True).stdout
    assert said == b"".join(os.fsencode(name) + b"\0" for name in names)


@given(LETTERS)
def test_nothing_in_a_name_does_anything(name: str) -> None:
    active = set("\x00\n\t\r\x1b\x7f\x9b\u2028\u202e\udc9b")
    assert not active & {*quoted(name)}
    said = escaped_json(json.dumps({"path": name}, ensure_ascii=False))
    assert not active & {*said}
    said.encode()  # is Unicode
    assert json.loads(said)["path"] == name


def test_search_prints_names_of_any_kind(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    """In a pipe, where click takes control sequences away: the name printed would be that of another file."""
    for name in (ESCAPE, "copy.png"):
        shutil.copy(pictures / "scene-0.png", tmp_path / name)
    index = ("index", tmp_path, "--model", tiny_model)
    assert cli(*index).code == OK
    search = ("search", "a star", tmp_path, "--model", tiny_model, "--copies")
    assert sorted(cli(*search, "-0").out.split("\0")) == sorted(
        ["", str(tmp_path / "copy.png"), f"{tmp_path}/{ESCAPE}"]
    )
    line = f"'{tmp_path}/esc'$'\\033''[31mred'$'\\n''.png'"
    assert line in cli(*search, "--paths").out.splitlines()
    assert f"  {line}" in cli(*search).out
    assert f"{tmp_path}/{ESCAPE}" in [hit["path"] for hit in cli(*search, "--json").json["hits"]]
    copies = ("index", "duplicates", tmp_path)
    assert cli(*copies, "-0").out in (f"{tmp_path}/{ESCAPE}\0", f"{tmp_path}/copy.png\0")
    for said in (cli(*copies), cli(*copies, "--paths"), cli(*copies, "--json"), cli(*search, "--previews", "none")):
        assert "\x1b" not in said.out + said.err


@pytest.mark.skipif(sys.platform != "linux", reason="no such names of files")
def test_a_folder_and_a_model_may_be_called_by_bytes_that_are_no_text(
    tiny_model: Path, pictures: Path, tmp_path: Path
) -> None:
    """As folders are that were packed on an older system; the index finds its model again."""
    folder, model = tmp_path / "caf\udce9", tmp_path / "mod\udce8le"
    shutil.copytree(tiny_model, model)
    folder.mkdir()
    shutil.copy(pictures / "scene-0.png", folder / "a\udcff.png")
    with diptych.open_index(folder, model=str(model)) as index:
        index.update()
    with diptych.open_index(folder) as index:
        assert [hit.path for hit in index.search("a star").hits] == [folder / "a\udcff.png"]
        assert index.catalog.facts()["model"] == str(model)
        assert index.update().unchanged == 1
        assert not index.update(reindex=True).failures


def test_rows_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """What a camera calls itself is a stranger's word, too."""
    rows([Hit(Path("d") / ESCAPE, 0.5, None, camera="C\x1b[2J"), Hit(Path("犬.mp4"), 0.4, None, at_s=61.0)], "none")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.splitlines()[1].endswith("  'd/esc'$'\\033''[31mred'$'\\n''.png'  C\\x1b[2J")
    assert out.splitlines()[2].endswith("  犬.mp4 at 1:01")


def test_what_is_said_of_a_name_is_harmless(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "scene-0.png", tmp_path / "a\x1b[2J.png")
    (tmp_path / "broken\x1b[2J\n.png").write_bytes(b"no picture")
    for name in ("cat\x1b[2J", "dog"):  # folders whose names are the labels
        (tmp_path / "classes" / name).mkdir(parents=True)
        shutil.copy(pictures / "scene-0.png", tmp_path / "classes" / name / "a.png")
    for arguments in (
        ("search", "a star", tmp_path, "--model", tiny_model),
        ("classify", tmp_path, "--labels", "a,b", "--model", tiny_model),
        ("compare", tmp_path, "a star", "--model", tiny_model),
        ("search", "a star", tmp_path / "gone\x1b[2J"),
        ("search", "--image", tmp_path / "gone\x1b[2J"),
        ("doctor", tmp_path),
        ("classify", tmp_path / "classes", "--model", tiny_model),
    ):
        said = cli(*arguments)
        assert "\x1b" not in said.out + said.err, arguments
        assert said.code == OK or "\\x1b[2J" in said.err + said.out
