"""An untrusted index: its model is not downloaded and its folder is not followed before the user accepts it."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hub import Hub, commit_of, standing_in

import diptych
from diptych.cli import FAILED, NOTHING, OK, USAGE
from diptych.errors import DiptychError
from diptych.index.local import open_index
from diptych.index.trust import trusted_indexes
from tests.conftest import Cli

REPOSITORY = "someone/model"
COMMANDS = {
    "search": ("search", "a star"),
    "index": ("index",),
    "reindex": ("index", "--reindex"),
    "duplicates": ("index", "duplicates"),
    "doctor": ("doctor",),
    "repair": ("doctor", "--repair"),
}  # fmt: skip
MINE = "neither made nor accepted here"


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with standing_in(monkeypatch, tmp_path / "hub") as server:
        server.repositories[REPOSITORY] = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
        yield server


@pytest.fixture(scope="module")
def made(tiny_model: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index."""
    folder = tmp_path_factory.mktemp("made") / "pictures"
    shutil.copytree(pictures, folder)
    open_index(folder, model=tiny_model).update()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it, which stays trusted."""
    return Path(shutil.copytree(made, tmp_path / "pictures"))


@pytest.fixture
def downloaded(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for another user, with a catalog that names a hub model, and an unindexed picture."""
    name(folder, REPOSITORY)
    shutil.copy(folder / "scene-0.png", folder / "new.png")
    with open(folder / "new.png", "ab") as file:
        file.write(b"new")
    as_another_user(tmp_path, monkeypatch)
    return folder


def as_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other" / "config"))


def name(folder: Path, model: object, fact: str = "model") -> None:
    """Make the catalog name this model."""
    db = sqlite3.connect(folder / ".diptych" / "catalog.sqlite")
    with db:
        db.execute("UPDATE facts SET value = ? WHERE key = ?", (model, fact))
    db.close()


# --- the network


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_command_downloads_the_model_of_an_untrusted_index(
    cli: Cli, hub: Hub, downloaded: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *asked, **_: pytest.fail(f"{asked} was looked up"))
        said = cli(*command, downloaded)
    assert (said.code, hub.requests) == (FAILED, [])
    told = said.out + said.err
    asks = f"the index in {downloaded / '.diptych'} was {MINE}, and asks for the model '{REPOSITORY}' (dated 20"
    assert (asks in told, f"made by diptych '{diptych.__version__}' by its own account)" in told) == (True, True)
    other = "diptych index FOLDER --model MODEL" if "duplicates" in command else "--model MODEL"
    assert f"--trust accepts it as it is, permanently; {other} opens it with your own copy of that model; " in told
    assert "--reindex with a model named, such as bundled, embeds the pictures again." in told
    assert "Traceback" not in told


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_trusted_model_is_downloaded_and_stays_trusted(
    cli: Cli, hub: Hub, downloaded: Path, command: tuple[str, ...]
) -> None:
    assert cli(*command, downloaded, "--trust").code in (OK, NOTHING)
    assert hub.requests
    assert cli("search", "a star", downloaded).code == OK
    said = cli("doctor", downloaded)
    how = "made" if "--reindex" in command else "accepted"
    assert (said.code, f"{how} here on 20" in said.out) == (OK, True)


def test_a_named_model_is_opened_instead(cli: Cli, hub: Hub, downloaded: Path, tiny_model: Path) -> None:
    said = cli("search", "a star", downloaded, "--model", tiny_model, "--json")
    assert (said.code, said.json["searched"]) == (OK, 9)
    assert cli("index", downloaded, "--model", tiny_model).code == OK
    assert cli("doctor", downloaded, "--model", tiny_model).code == OK
    said = cli("search", "a star", downloaded, "--model", "bundled")
    assert (said.code, "another model or another state of it" in said.err) == (FAILED, True)
    assert hub.requests == []
    assert cli("search", "a star", downloaded).code == FAILED  # it was not accepted by that
    assert cli("index", "duplicates", downloaded, "--no-update").code in (OK, NOTHING)  # for which no model is needed


def test_the_library_opens_no_model_of_an_untrusted_index(hub: Hub, downloaded: Path) -> None:
    with open_index(downloaded) as index:
        for use in (lambda: index.model, lambda: index.model_for_reindex, lambda: index.search("a star"), index.update):
            with pytest.raises(
                diptych.IndexUntrustedError, match=r"trust=True accepts.*diptych.open_index\(model=MODEL"
            ) as told:
                use()
            assert isinstance(told.value, DiptychError)
        assert index.counts().files == 8
    assert hub.requests == []
    with open_index(downloaded, trust=True) as index:
        assert index.search("a star", limit=3).hits
    with open_index(downloaded) as index:
        assert index.update().added == 1
    assert hub.requests


def test_several_folders_are_checked_one_by_one(
    cli: Cli, hub: Hub, downloaded: Path, pictures: Path, tiny_model: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(pictures, tmp_path / "own", ignore=shutil.ignore_patterns(".*"))
    assert cli("index", own, "--model", tiny_model).code == OK
    said = cli("search", "a star", own, downloaded)
    assert (said.code, f"the index in {downloaded / '.diptych'} was {MINE}" in said.err) == (FAILED, True)
    said = cli("search", "a star", own, downloaded, "--model", tiny_model, "--json")
    assert (said.code, said.json["searched"]) == (OK, 17)
    assert hub.requests == []


@pytest.mark.parametrize("command", [COMMANDS["search"], COMMANDS["reindex"], COMMANDS["repair"]])
def test_no_command_downloads_the_model_of_a_damaged_untrusted_index(
    cli: Cli, hub: Hub, downloaded: Path, command: tuple[str, ...]
) -> None:
    db = sqlite3.connect(downloaded / ".diptych" / "catalog.sqlite")
    with db:
        db.execute("DELETE FROM facts WHERE key = 'fingerprint'")
    db.close()
    said = cli(*command, downloaded)
    assert (said.code, hub.requests) == (FAILED, [])
    assert "Traceback" not in said.err


# --- names


@pytest.mark.parametrize(
    "model", ["model", "./model", "~/model", "../here/model", "model/../model", "", 7, b"\xff", None]
)
def test_a_relative_model_path_is_never_opened(
    cli: Cli, folder: Path, tiny_model: Path, tmp_path: Path, model: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "here" / "model")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    name(folder, model)
    for trust in ((), ("--trust",)):
        said = cli("search", "a star", folder, "--no-update", *trust)
        assert (said.code, said.out) == (FAILED, "")
        assert "Traceback" not in said.err


def test_a_hub_id_is_not_a_local_folder(
    cli: Cli, hub: Hub, downloaded: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "here" / REPOSITORY)
    (tmp_path / "here" / REPOSITORY / "config.json").write_text("not to be read")
    monkeypatch.chdir(tmp_path / "here")
    assert cli("search", "a star", downloaded, "--trust").code == OK
    assert hub.requests
    assert cli("index", downloaded, "--reindex").code == OK
    with open_index(downloaded) as index:
        assert index.catalog.facts()["model"] == f"{REPOSITORY}@{commit_of(REPOSITORY)}"


def test_untrusted_facts_are_escaped_and_truncated(cli: Cli, downloaded: Path) -> None:
    name(downloaded, "evil/\x1b]0;title\x07\u202emodel" + "x" * 5000)
    name(downloaded, "\x1b[31m9", "version")
    said = cli("search", "a star", downloaded)
    assert said.code == FAILED
    assert not any(letter in said.err for letter in "\x1b\x07\u202e")
    assert r"'evil/\x1b]0;title\x07\u202emodel" in said.err
    assert len(said.err) < 1500


# --- strangers' and one's own


def test_an_untrusted_index_of_the_bundled_model_works(
    cli: Cli, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(pictures, tmp_path / "pictures", ignore=shutil.ignore_patterns(".*"))
    assert cli("index", folder).code == OK
    own = cli("search", "a star", folder)
    as_another_user(tmp_path, monkeypatch)
    assert cli("search", "a star", folder) == own
    assert own.code == OK


def test_an_index_stays_trusted_when_moved_or_copied(cli: Cli, folder: Path, tmp_path: Path) -> None:
    assert cli("search", "a star", folder).code == OK
    moved = folder.rename(tmp_path / "moved")
    assert cli("search", "a star", moved).code == OK
    copied = shutil.copytree(moved, tmp_path / "copied")
    for each in (moved, copied):
        assert cli("search", "a star", each).code == OK
        assert "made here on 20" in cli("doctor", each).out
    apart = (copied / ".diptych").rename(tmp_path / "apart")
    assert cli("search", "a star", copied, "--index", apart).code == OK


@pytest.mark.parametrize(("fact", "value"), [("model", REPOSITORY), ("fingerprint", "another"), ("dim", 8)])
def test_an_altered_index_is_untrusted(cli: Cli, hub: Hub, folder: Path, fact: str, value: object) -> None:
    name(folder, value, fact)
    said = cli("search", "a star", folder, "--no-update")
    assert said.code == FAILED
    assert "has changed since it was made or accepted here" in said.err
    assert hub.requests == []


def test_trust_is_revoked(cli: Cli, hub: Hub, downloaded: Path) -> None:
    assert cli("doctor", downloaded, "--revoke-trust").code == NOTHING
    assert cli("search", "a star", downloaded, "--trust").code == OK
    hub.requests.clear()
    said = cli("doctor", downloaded, "--revoke-trust", "--json")
    assert (said.code, said.json) == (OK, {"index": str(downloaded / ".diptych"), "forgotten": True})
    assert (cli("search", "a star", downloaded).code, hub.requests) == (FAILED, [])
    assert cli("doctor", "--revoke-trust").code == USAGE
    assert cli("doctor", downloaded, "--revoke-trust", "--repair").code == USAGE


def test_the_doctor_lists_trusted_indexes(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_another_user(tmp_path, monkeypatch)
    said = cli("doctor").out
    assert f"0 made or accepted here, recorded in {tmp_path}/other/config/diptych" in said
    assert cli("index", folder, "--trust").code == OK
    said = cli("doctor").out
    assert "1 made or accepted here" in said
    assert f"{folder}/.diptych, accepted on 20" in said


def test_the_doctor_reports_that_the_bundled_model_needs_no_trust(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_another_user(tmp_path, monkeypatch)
    assert "needs none" not in cli("doctor", folder).out
    name(folder, "bundled")
    assert f"none, because it was {MINE}; the bundled model needs none" in cli("doctor", folder).out


def test_the_identity_of_a_damaged_index_is_read(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = folder / ".diptych" / "catalog.sqlite"
    catalog.write_bytes(b"no catalog" + catalog.read_bytes()[10:])
    said = cli("doctor", folder)
    assert (said.code, "made here on 20" in said.out) == (FAILED, True), said.out
    as_another_user(tmp_path, monkeypatch)
    assert "none, because it was neither made nor accepted here" in cli("doctor", folder).out


def test_a_separate_index_leads_to_its_folder_if_trusted(
    cli: Cli, hub: Hub, folder: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = tmp_path / "apart"
    assert cli("index", folder, "--index", apart, "--model", tiny_model).code == OK
    assert open_index(folder / "below", index=apart).root == folder
    as_another_user(tmp_path, monkeypatch)
    said = cli("search", "a star", folder / "below", "--index", apart, "--model", tiny_model)
    assert (said.code, f"asks for the pictures in '{folder}'" in said.err) == (FAILED, True)
    assert open_index(folder / "below", index=apart, trust=True).root == folder
    assert open_index(folder / "below", index=apart).root == folder


# --- the question


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
@pytest.mark.parametrize(("answer", "code"), [("\n", FAILED), ("no\n", FAILED), ("y\n", OK)])
def test_a_terminal_user_is_asked(
    hub: Hub, downloaded: Path, tiny_model: Path, answer: str, code: int, tmp_path: Path
) -> None:
    import pty

    name(downloaded, str(tiny_model))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "diptych", "search", "a star", str(downloaded), "--paths", "--device", "cpu"]
    process = subprocess.Popen(
        command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, env={**os.environ, "COLUMNS": "200"}
    )
    os.close(theirs)
    said = b""
    try:
        while b"[y/N]" not in said:
            said += os.read(ours, 4096)
        os.write(ours, answer.encode())
        out = process.communicate(timeout=120)[0]
        with suppress(OSError):  # Linux says so when nobody has the other end any more
            while chunk := os.read(ours, 4096):
                said += chunk
    finally:
        process.kill()
        os.close(ours)
    assert process.returncode == code
    assert bool(out) == (code == OK)
    told = " ".join(said.decode().split())
    assert told.count(MINE) == 1
    assert ("diptych: the index is not trusted. --trust accepts it as it is" in told) == (code == FAILED)
    assert len(trusted_indexes.records()) == (code == OK)
