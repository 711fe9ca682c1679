"""`diptych index copy`, and searches at an address."""

import shutil
from pathlib import Path

import pytest

import diptych
from diptych.cli import FAILED, NOTHING, OK, USAGE
from diptych.errors import ArgumentError, IndexModelError, IndexUntrustedError
from diptych.index.remote import StoreIndex
from tests.conftest import Cli
from tests.postgresql import server


@pytest.fixture(params=["postgresql", "milvus-lite"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """That of an index which nobody has made yet."""
    if request.param == "postgresql":
        return server().uri()
    pytest.importorskip("milvus_lite", reason="milvus_lite has no wheel here")
    return f"milvus://{tmp_path}/items.db#photos"


def test_an_index_is_copied_searched_and_copied_back(
    cli: Cli, indexed: Path, tiny_model: Path, address: str, tmp_path: Path
) -> None:
    said = cli("index", "copy", indexed, address, "--json")
    assert said.code == OK
    assert (said.json["copied"], said.json["already"], said.json["removed"]) == (5, 0, 0)
    again = cli("index", "copy", indexed, address)
    assert (again.code, again.out) == (OK, "0 items copied, 5 were there; both have 5\n")

    model = ("--model", tiny_model)
    here, there = (cli("search", "a red star", where, *model, "--json") for where in (indexed, address))
    assert there.code == OK
    assert len(there.json["hits"]) == 3
    for one, other in zip(here.json["hits"], there.json["hits"], strict=True):
        assert Path(one["path"]) == Path(other["path"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    filtered = cli("search", "a red star", address, *model, "--path", "below/**", "--paths")
    assert filtered.out.splitlines() == [str(indexed / "below" / "2.png")]
    assert cli("search", "a red star", address, *model, "--path", "nowhere/*").code == NOTHING

    back = tmp_path / "back"
    back.mkdir()
    copied = cli("index", "copy", address, back, *model, "--json")
    assert copied.code == OK
    assert copied.json["checksum"] == said.json["checksum"]
    shutil.copytree(indexed, back, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".diptych"))
    updated = cli("index", back, *model, "--json").json
    assert (updated["added"], updated["changed"], updated["forgotten"], updated["unchanged"]) == (0, 0, 0, 4)


def test_python_opens_an_address_as_it_opens_a_folder(indexed: Path, tiny_model: Path, address: str) -> None:
    diptych.copy_index(indexed, address)
    with diptych.open_index(address, model=tiny_model) as index:
        assert isinstance(index, StoreIndex)
        assert index.exists
        assert (index.counts().pictures, index.counts().texts) == (3, 2)
        found = index.search("a red star", limit=2, modality="both")
        assert len(found.hits) == 2
        assert found.searched == 5
    with diptych.open_index(indexed, model=tiny_model) as folder:
        assert [hit.path for hit in folder.search("a red star", limit=2, modality="both").hits] == [
            hit.path for hit in found.hits
        ]


def test_a_server_does_not_choose_the_model(cli: Cli, indexed: Path, address: str, tmp_path: Path) -> None:
    """Whoever may write to it may name any."""
    diptych.copy_index(indexed, address)
    said = cli("search", "a red star", address)
    assert said.code == FAILED
    assert "--model" in said.err
    assert cli("search", "a red star", address, "--trust").code == OK
    (tmp_path / "back").mkdir()
    with pytest.raises(IndexUntrustedError):
        diptych.copy_index(address, tmp_path / "back")
    with pytest.raises(IndexModelError):
        diptych.copy_index(address, tmp_path / "back", model=diptych.load())


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("postgresql://me:geheim@127.0.0.1:1/db", FAILED, "127.0.0.1"),
        ("milvus://root:geheim@127.0.0.1:1/photos", FAILED, "127.0.0.1"),
        ("postgresql://me:geheim@127.0.0.1:1/db#no name", FAILED, "no name"),
        ("postgresql://me:geheim@127.0.0.1:port/db", FAILED, ""),
        ("postgresql://me:gehe#geheim@127.0.0.1/db", FAILED, "%23"),
        ("postgresql+psycopg://me:geheim@127.0.0.1/db", FAILED, "postgresql://"),
    ],
)
def test_an_address_that_does_not_answer(cli: Cli, address: str, code: int, words: str, indexed: Path) -> None:
    for command in (("search", "a dog", address), ("index", "copy", indexed, address, "--timeout", 2)):
        said = cli(*command)
        assert said.code == code
        assert words in said.err
        assert "geheim" not in said.err + said.out


@pytest.mark.parametrize("command", [("index",), ("doctor",), ("index", "duplicates")])
def test_a_command_for_folders_shows_no_password(cli: Cli, command: tuple[str, ...]) -> None:
    said = cli(*command, "postgresql://me:ge@heim/geheim@127.0.0.1/db")
    assert said.code == USAGE
    assert "heim" not in said.err + said.out


def test_what_cannot_be_meant_is_refused(cli: Cli, indexed: Path, address: str) -> None:
    said = cli("search", "a dog", address, "--update")
    assert (said.code, "index copy" in said.err) == (USAGE, True)
    assert cli("index", "copy", indexed, indexed).code == FAILED
    empty = cli("search", "a dog", address)
    assert empty.code == FAILED
    with pytest.raises(ArgumentError, match="whole index"):
        diptych.copy_index(indexed / "below", address)
