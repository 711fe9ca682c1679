"""What is kept in the user's cache is shown, and goes when it is told to; nothing else does."""

import os
import stat
from pathlib import Path

import pytest

from diptych.cli import FAILED, OK, USAGE
from diptych.storage.user import compiled_cache
from tests.conftest import Cli


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "diptych"


def test_the_cache_is_shown_and_emptied(cache: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("doctor", "--cache", "--json").json["freed"] == 0
    compiled_cache.write("a", b"x" * 996)
    (cache / "vectors" / "set").mkdir(parents=True)
    (cache / "vectors" / "set" / "1.npz").write_bytes(b"y" * 2_000_000)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"z")
    (cache / "vectors" / "link").symlink_to(tmp_path / "mine")
    (cache / "notes.txt").write_text("of somebody else")
    shown = {Path(row["folder"]).name: row for row in cli("doctor", "--cache", "--json").json["cache"]}
    assert (shown["compiled"]["files"], shown["compiled"]["size"]) == (1, 1000)
    assert shown["vectors"]["size"] >= 2_000_000
    said = cli("doctor", "--cache")
    assert "2.0 MB" in said.out
    assert "--clear deletes these files" in said.err
    emptied = cli("doctor", "--cache", "--clear")
    assert (emptied.code, "deleted 2.0 MB" in emptied.err) == (OK, True)
    assert all(row["files"] == 0 for row in cli("doctor", "--cache", "--json").json["cache"])
    assert (tmp_path / "mine" / "photo.jpg").exists()
    assert (cache / "notes.txt").exists()


@pytest.mark.parametrize("also", [(), ("--clear",)])
def test_a_user_without_a_home_has_none(cli: Cli, monkeypatch: pytest.MonkeyPatch, also: tuple[str, ...]) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("relative"))
    said = cli("doctor", "--cache", *also)
    assert said.code == FAILED
    assert "has no cache folder" in said.err


def test_cache_stands_alone(cli: Cli, tmp_path: Path) -> None:
    for arguments in (("--clear",), ("--cache", tmp_path), ("--cache", "--model", "bundled")):
        assert cli("doctor", *arguments).code == USAGE


def test_what_is_let_go_is_read_again(cache: Path) -> None:
    compiled_cache.write("a", bytes(range(256)) * 100)
    content = compiled_cache.read("a")
    assert content is not None
    before = content.tobytes()
    compiled_cache.let_go(content)
    assert content.tobytes() == before == bytes(range(256)) * 100


@pytest.mark.skipif(os.name == "nt", reason="files of Windows have no owner or mode of this kind")
def test_what_others_can_write_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_cache.write("a", b"x" * 100)
    path = cache / "compiled" / "a"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o666)
    assert compiled_cache.read("a") is None
    compiled_cache.write("a", b"y" * 100)
    assert compiled_cache.read("a") is not None
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    is_the_systems = path.stat().st_uid == 0
    assert (compiled_cache.read("a") is not None) == is_the_systems


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_a_pipe_in_the_cache_blocks_nothing(cache: Path) -> None:
    (cache / "compiled").mkdir(parents=True)
    os.mkfifo(cache / "compiled" / "a")
    assert compiled_cache.read("a") is None
