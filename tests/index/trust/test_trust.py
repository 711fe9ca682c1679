"""Which indexes are trusted: after any kill, with any number of writers, whatever a folder contains."""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from index_model import InlineReaders, PixelModel, draw

from diptych.cli import FAILED, OK
from diptych.errors import IndexModelError, IndexUntrustedError, MessageParts, format_message
from diptych.index.local import LocalIndex, open_index
from diptych.index.trust import trusted_indexes
from diptych.index.trust.identity import LIMIT, NAME, Facts
from diptych.index.trust.trust import Trust
from diptych.media.reading import readers
from diptych.storage.directory import IndexDirectory
from diptych.storage.user import configuration
from tests.conftest import Cli

FACTS = Facts("tests/pixels", "pixels-1", 16, "/pictures")
MODELS = {"tests/pixels": PixelModel(), "tests/other": PixelModel("pixels-2", "tests/other")}


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture."""
    return draw(tmp_path / "pictures" / "0.png", 0).parent


def opened(folder: Path, **settings: Any) -> LocalIndex:
    """The index, with the test's model that the catalog names."""
    return open_index(folder, open_model=lambda name: MODELS[name or ""], **settings)


def trust_in(index_dir: Path, *, said: list[str] | None = None, **settings: Any) -> Trust:
    index_dir.mkdir(exist_ok=True)

    def notice(words: MessageParts) -> None:
        if said is not None:
            said.append(format_message(words))

    return Trust(IndexDirectory(index_dir), is_apart=False, notice=notice, **settings)


def is_known(index_dir: Path, facts: Mapping[str, Any] | None = None) -> bool:
    trust = trust_in(index_dir)
    trust.is_known()
    trust.confirm(facts or FACTS._asdict())
    return trust.is_trusted


# --- killed


def counted(change: Callable[..., Any], left: list[None]) -> Callable[..., Any]:
    """A replacement that counts down, and ends the process at 0."""

    def changed(*arguments: Any, **options: Any) -> Any:
        if not left:
            os._exit(9)
        left.pop()
        return change(*arguments, **options)

    return changed


def killed(work: Callable[[], object], at: int) -> bool:
    """Do the work in a process that ends before the `at`th file is renamed, or opened by SQLite. Returns whether it
    ended there."""
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9)
        return code == 9
    code = 1
    try:
        left = [None] * at
        for name in ("replace", "link"):
            setattr(os, name, counted(getattr(os, name), left))
        sqlite3.connect = counted(sqlite3.connect, left)  # type: ignore[misc]
        work()
        code = 0
    finally:
        os._exit(code)


def everywhere(work: Callable[[], object]) -> Iterator[int]:
    """Run the work repeatedly, killed one step later each time, until it completes."""
    for at in range(200):
        if not killed(work, at):
            return
        yield at
    pytest.fail("it never ended")


FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are killed at a certain step")


@FORKS
def test_an_index_is_trusted_wherever_its_creation_is_killed(folder: Path) -> None:
    moments = 0
    for _ in everywhere(lambda: opened(folder, model=MODELS["tests/pixels"]).update()):
        with opened(folder) as index:
            moments += index.exists
            if index.exists:
                assert index.model.source == "tests/pixels"
                index.update()
                assert opened(folder).model.source == "tests/pixels"
        shutil.rmtree(folder / ".diptych", ignore_errors=True)
        shutil.rmtree(configuration.folder(), ignore_errors=True)
    assert moments > 1  # the catalog is there, and what comes after is not


@FORKS
@pytest.mark.parametrize("is_strangers", [False, True])
def test_an_index_is_trusted_wherever_its_replacement_is_killed(
    folder: Path, tmp_path: Path, is_strangers: bool
) -> None:
    opened(folder, model=MODELS["tests/pixels"]).update()
    if is_strangers:
        shutil.rmtree(configuration.folder())
    before = shutil.copytree(folder, tmp_path / "before")
    seen = set[str]()
    for _ in everywhere(lambda: opened(folder, model=MODELS["tests/other"]).update(reindex=True)):
        with opened(folder) as index:
            model = str(index.catalog.facts()["model"])
            seen.add(model)
            if is_strangers and model == "tests/pixels":
                with pytest.raises(IndexUntrustedError):
                    _ = index.model
            else:
                assert index.model.source == model
                index.update()
                assert opened(folder).model.source == model
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
    assert seen == {"tests/pixels", "tests/other"}
    with opened(folder) as index:
        assert index.model.source == "tests/other"
    entries = json.loads((folder / ".diptych" / NAME).read_text())["entries"]
    assert len(entries) == 1 + is_strangers  # what was made before is known no more, but to the other who made it


@FORKS
def test_a_separate_index_is_trusted_wherever_the_move_of_its_pictures_is_killed(folder: Path, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    opened(folder, model=MODELS["tests/pixels"], index=apart).update()
    moved = folder.rename(tmp_path / "moved")
    before = shutil.copytree(apart, tmp_path / "before")
    for _ in everywhere(lambda: opened(moved, index=apart).update()):
        with opened(moved, index=apart) as index:
            assert index.model.source == "tests/pixels"
        shutil.rmtree(apart)
        shutil.copytree(before, apart)
    assert opened(moved, index=apart).model.source == "tests/pixels"


def test_an_untrusted_interrupted_replacement_is_not_resumed(folder: Path) -> None:
    """The unfinished catalog names another model than the requested one."""
    opened(folder, model=MODELS["tests/pixels"]).update()
    index_dir = folder / ".diptych"
    shutil.copy(index_dir / "catalog.sqlite", index_dir / "catalog-new.sqlite")
    db = sqlite3.connect(index_dir / "catalog-new.sqlite")
    with db:
        db.execute("UPDATE facts SET value = 'evil/model' WHERE key = 'model'")
    db.close()
    assert opened(folder, model=PixelModel()).update(reindex=True).added == 1
    assert opened(folder).catalog.facts()["model"] == "tests/pixels"


# --- at once


@FORKS
@pytest.mark.parametrize("how", ["accepted", "made"])
def test_any_number_may_write_at_once(tmp_path: Path, how: str) -> None:
    index_dir = tmp_path / ".diptych"
    index_dir.mkdir()
    ready, go = os.pipe()
    children = []
    for _ in range(6):
        if child := os.fork():
            children.append(child)
            continue
        code = 1
        try:
            os.close(go)
            os.read(ready, 1)  # until the parent closes its end
            trust = trust_in(index_dir)
            for _ in range(5):
                if how == "accepted":
                    trust.accept(FACTS._asdict())
                else:
                    with trust.signing_catalog(FACTS):
                        pass
            code = not trust.is_trusted
        finally:
            os._exit(code)
    os.close(go)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    os.close(ready)
    assert is_known(index_dir)
    assert os.listdir(index_dir) == [NAME]
    assert not [name for name in os.listdir(configuration.folder()) if name.startswith(".")]


# --- whose


def test_each_of_several_users_trusts_a_shared_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_dir = tmp_path / ".diptych"
    for user in ("one", "two", "three"):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / user))
        assert not is_known(index_dir)
        assert trust_in(index_dir).accept(FACTS._asdict())
    for user in ("one", "two", "three"):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / user))
        assert is_known(index_dir)
        assert not is_known(index_dir, FACTS._replace(model="evil/model")._asdict())


def test_an_identity_is_bound_to_its_id_facts_and_user(tmp_path: Path) -> None:
    index_dir = tmp_path / ".diptych"
    trust_in(index_dir).accept(FACTS._asdict())
    (entry,) = json.loads((index_dir / NAME).read_text())["entries"]
    other = tmp_path / "other"
    trust_in(other).accept(FACTS._replace(model="tests/other")._asdict())
    (theirs,) = json.loads((other / NAME).read_text())["entries"]
    assert (is_known(index_dir), entry["id"] != theirs["id"]) == (True, True)
    forged = [
        entry | {"model": "evil/model"}, entry | {"fingerprint": "x"}, entry | {"dim": 8}, entry | {"root": "/"},
        entry | {"id": theirs["id"]}, entry | {"checksum": theirs["checksum"]}, entry | {"checksum": ""},
        entry | {"checksum": None}, entry | {"checksum": "\u2603"}, entry | {"checksum": "\ud800"},
        entry | {"model": "\ud800"}, theirs | {"model": FACTS.model},
        entry | {"dim": "16"},
    ]  # fmt: skip
    for each in forged:
        (index_dir / NAME).write_text(json.dumps({"entries": [each]}))
        assert not is_known(index_dir), each
        (index_dir / NAME).write_text(json.dumps({"entries": [each, entry]}))
        assert is_known(index_dir), each


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b'{"entries": 7}', b'{"entries": [7, null, [], {}, {"id": 7}, {"id": "../../key"}]}',
    b'{"entries": [{"id": ["x"], "model": {}}]}', b"\xff\xfe", b"[" * 60_000, b'{"entries": ' + b"[" * 60_000,
    b'{"entries": [' + b"9" * 6000 + b"]}", b" " * (LIMIT + 1),
], ids=range(12))  # fmt: skip
def test_an_identity_of_any_other_content_is_untrusted(tmp_path: Path, content: bytes) -> None:
    index_dir = tmp_path / ".diptych"
    index_dir.mkdir()
    (index_dir / NAME).write_bytes(content)
    assert not is_known(index_dir)
    assert trust_in(index_dir).accept(FACTS._asdict())
    assert is_known(index_dir)


def test_other_entries_of_a_full_identity_are_dropped(tmp_path: Path) -> None:
    index_dir = tmp_path / ".diptych"
    index_dir.mkdir()
    for many in ([{"id": f"{number:032x}"} for number in range(100)], [{"id": "0" * 32, "said": "x" * 40_000}]):
        (index_dir / NAME).write_text(json.dumps({"entries": many}))
        assert trust_in(index_dir).accept(FACTS._asdict())
        assert is_known(index_dir)
        assert (index_dir / NAME).stat().st_size < LIMIT


def test_an_identity_that_is_a_link_is_untrusted(tmp_path: Path) -> None:
    index_dir = tmp_path / ".diptych"
    trust_in(index_dir).accept(FACTS._asdict())
    (index_dir / NAME).rename(tmp_path / "elsewhere")
    (index_dir / NAME).symlink_to(tmp_path / "elsewhere")
    assert not is_known(index_dir)


# --- before identities


@pytest.fixture
def earlier(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of an earlier version, whose user has just installed this one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened(folder, model=MODELS["tests/pixels"]).update()
    (folder / ".diptych" / NAME).unlink()
    shutil.rmtree(configuration.folder())
    compiled = tmp_path / "cache" / "diptych" / "compiled"
    compiled.mkdir(parents=True)
    (compiled / "text-tower").touch()
    installed_ns = time.time_ns() + 10**9
    monkeypatch.setattr(trusted_indexes, "installed_ns", lambda: installed_ns)
    monkeypatch.setattr(time, "time_ns", lambda: installed_ns + 10**9)  # it is used for the first time after that
    monkeypatch.setattr("diptych.embedder.load", lambda name, **options: MODELS[name])
    return folder


def test_an_index_of_an_earlier_version_is_accepted_once(cli: Cli, earlier: Path) -> None:
    line = f"{earlier / '.diptych'} was made before indexes were signed, and is yours: it is accepted with its"
    said = cli("search", "a star", earlier)
    assert (said.code, said.err.count(line)) == (OK, 1)
    again = cli("search", "a star", earlier)
    assert (again.code, line in again.err) == (OK, False)
    assert "accepted as made by an earlier version here on" in cli("doctor", earlier).out
    assert cli("doctor", earlier, "--revoke-trust").code == OK
    assert cli("search", "a star", earlier).code == FAILED  # it is not accepted a second time


def test_an_earlier_index_whose_update_was_killed_is_accepted_too(
    cli: Cli, earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rollback writes to the catalog and so changes its status time."""
    index_dir, copy = earlier / ".diptych", tmp_path / "copy"
    db = sqlite3.connect(index_dir / "catalog.sqlite", isolation_level=None)
    for statement in ("PRAGMA cache_size = 1", "BEGIN", "UPDATE items SET vector = zeroblob(3)"):
        db.execute(statement)
    db.execute("UPDATE files SET digest = randomblob(40000)")  # more than the cache holds goes to the disk
    shutil.copytree(index_dir, copy)
    db.close()
    assert (copy / "catalog.sqlite-journal").stat().st_size > 0
    for name in ("catalog.sqlite", "catalog.sqlite-journal"):
        os.replace(copy / name, index_dir / name)
    changed_ns = (index_dir / "catalog.sqlite").stat().st_ctime_ns
    monkeypatch.setattr(trusted_indexes, "installed_ns", lambda: changed_ns + 1)
    said = cli("search", "a star", earlier)
    assert (said.code, said.err.count("was made before indexes were signed")) == (OK, 1)


def no_use_before(index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(tmp_path / "cache")


def used_this_version_alone(index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted_indexes, "installed_ns", lambda: (tmp_path / "cache").stat().st_ctime_ns - 1)


def nothing_in_the_cache(index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(tmp_path / "cache" / "diptych" / "compiled")


def came_after_the_installation(index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = (index_dir / "catalog.sqlite").stat().st_ctime_ns
    trusted_indexes.key()
    monkeypatch.setattr(trusted_indexes, "installed_ns", lambda: now_ns)


def came_after_the_first_use(index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = (index_dir / "catalog.sqlite").stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    trusted_indexes.key()


def is_anothers(index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)


def has_an_identity(index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (index_dir / NAME).write_text('{"entries": []}')


@pytest.mark.skipif(os.name != "posix", reason="without owners, none is accepted")
@pytest.mark.parametrize("why", [
    no_use_before, used_this_version_alone, nothing_in_the_cache, came_after_the_installation, came_after_the_first_use,
    is_anothers, has_an_identity,
])  # fmt: skip
def test_no_other_index_is_accepted_as_an_earlier_one(
    cli: Cli, earlier: Path, tmp_path: Path, why: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        why(earlier / ".diptych", tmp_path, patch)
        said = cli("search", "a star", earlier)
        assert said.code == FAILED
        assert "was neither made nor accepted here" in said.err


# --- where nothing can be written


@pytest.fixture
def no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))


@pytest.mark.usefixtures("no_configuration")
def test_an_unwritable_configuration_stops_nothing(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.embedder.load", lambda name, **options: MODELS[name])
    said = cli("index", folder, "--model", "tests/pixels")
    assert (said.code, said.err.count(": Not a directory), so it does not record")) == (OK, 1)
    assert "each time, name any model but the bundled one with --model or trust it with --trust" in said.err
    said = cli("search", "a star", folder)
    assert (said.code, ": Not a directory)" in said.err) == (FAILED, True)
    for each in (("--model", "tests/pixels"), ("--trust",)):
        assert cli("search", "a star", folder, *each).code == OK
    assert cli("search", "a star", folder, "--model", "tests/pixels").err.count("configuration") == 0
    assert cli("search", "a star", folder).code == FAILED
    assert "none, because it was neither made nor accepted here" in cli("doctor", folder, "--model", "tests/pixels").out


@pytest.mark.usefixtures("no_configuration")
def test_an_unusable_configuration_does_not_affect_the_bundled_model(cli: Cli, folder: Path) -> None:
    assert cli("index", folder).code == OK
    said = cli("search", "a star", folder)
    assert (said.code, "configuration" in said.err) == (OK, False)


def test_a_damaged_key_is_reported(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.embedder.load", lambda name, **options: MODELS[name])
    assert cli("index", folder, "--model", "tests/pixels").code == OK
    for content in ("", "{}", '{"secret": "00", "since_ns": 1, "used_before": true}'):
        (configuration.folder() / "key.json").write_text(content)
        said = cli("search", "a star", folder)
        assert (said.code, f"{configuration.folder() / 'key.json'} is not a valid key" in said.err) == (FAILED, True)


def test_a_read_only_index_is_trusted_by_its_path(folder: Path, tmp_path: Path, ordinary_user: None) -> None:
    opened(folder, model=MODELS["tests/pixels"]).update()
    shutil.rmtree(configuration.folder())
    (folder / ".diptych").chmod(0o555)
    with pytest.raises(IndexUntrustedError):
        _ = opened(folder).model
    assert opened(folder, trust=True).model.source == "tests/pixels"
    assert opened(folder).model.source == "tests/pixels"
    (folder / ".diptych").chmod(0o755)
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(IndexUntrustedError):
        _ = opened(moved).model


# --- repaired


def test_a_damaged_trusted_index_is_repaired_with_its_signed_model(folder: Path) -> None:
    from diptych.index.doctor import examine

    opened(folder, model=MODELS["tests/pixels"]).update()
    db = sqlite3.connect(folder / ".diptych" / "catalog.sqlite")
    db.executescript("DELETE FROM facts WHERE key IN ('model', 'fingerprint')")
    db.close()
    with opened(folder) as index:
        assert all(found.repaired for found in examine(index, repair=True))
    assert opened(folder).model.source == "tests/pixels"


def test_a_missing_model_is_named(folder: Path) -> None:
    opened(folder, model=MODELS["tests/pixels"]).update()
    index = open_index(folder, open_model=lambda name: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(IndexModelError, match=r"made with 'tests/pixels', which cannot be opened \(gone\)"):
        _ = index.model
