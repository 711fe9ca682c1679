"""Files and folders that appear complete or not at all, on the disk, under their old permissions."""

import os
import stat
import sys
from pathlib import Path

import pytest

from diptych.storage import atomic
from diptych.storage.atomic import atomic_folder, atomic_write, atomic_write_text, temporary_file

posix = pytest.mark.skipif(sys.platform == "win32", reason="permission bits, links and flushed directories")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Each fsync and rename with the name that it is of, in order."""
    calls = list[tuple[str, str]]()
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def name_of(file: int) -> str:
        inode = os.fstat(file).st_ino
        folders = [Path.cwd(), *Path.cwd().rglob("*")]
        return next((path.name for path in folders if path.lstat().st_ino == inode), "?")

    def flushed(file: int) -> None:
        calls.append(("fsync", without_token(name_of(file))))
        fsync(file)

    def replaced(old: Path, new: Path) -> None:
        calls.append(("replace", Path(new).name))
        replace(old, new)

    def renamed(old: Path, new: Path) -> None:
        calls.append(("rename", Path(new).name))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "rename", renamed)
    return calls


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def without_token(name: str) -> str:
    """`.a.0123abcd.part` -> `.a.part`"""
    return f"{name.rsplit('.', 2)[0]}.part" if name.endswith(".part") else name


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@posix
def test_the_bytes_are_on_the_disk_before_the_name(folder: Path, calls: list[tuple[str, str]]) -> None:
    atomic_write_text(folder / "a", "new")
    assert calls == [("fsync", ".a.part"), ("replace", "a"), ("fsync", "home")]


@posix
def test_every_file_of_a_folder_is_on_the_disk_before_its_name(folder: Path, calls: list[tuple[str, str]]) -> None:
    with atomic_folder(folder / "model") as new:
        (new / "below").mkdir()
        (new / "below" / "b").write_text("b")
        (new / "a").write_text("a")
    renamed = calls.index(("rename", "model"))
    assert set(calls[:renamed]) == {("fsync", name) for name in ("a", "b", "below", ".model.part")}
    assert calls[renamed + 1 :] == [("fsync", "home")]


def test_a_cache_leaves_the_flushing_to_the_system(folder: Path, calls: list[tuple[str, str]]) -> None:
    with atomic_write(folder / "a", durable=False) as part:
        part.write_text("new")
    assert calls == [("replace", "a")]


@pytest.mark.parametrize("fails_at", ["block", "fsync", "replace"])
@pytest.mark.parametrize("exists", [False, True])
def test_an_error_leaves_the_old_file_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str, exists: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    if exists:
        (folder / "a").write_text("old")
    if fails_at != "block":
        monkeypatch.setattr(os, fails_at, fail)
    with pytest.raises(OSError, match="full"), atomic_write(folder / "a") as part:
        part.write_text("ne") if fails_at != "block" else fail()
    assert {path.name: path.read_text() for path in folder.iterdir()} == ({"a": "old"} if exists else {})


@pytest.mark.parametrize("fails_at", ["block", "rename"])
def test_an_error_leaves_the_old_folder_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "a").write_text("old")
    rename = os.rename

    def fail(old: Path, new: Path) -> None:
        if str(old).endswith(".part"):  # in the block, or when it ends
            raise OSError("the disk is full")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="full"), atomic_folder(folder / "model", aside=folder / "aside") as new:
        (new / "a").write_text("new") if fails_at != "block" else fail(new, new)
    assert [(str(path.relative_to(folder))) for path in sorted(folder.rglob("*"))] == ["model", "model/a"]
    assert (folder / "model" / "a").read_text() == "old"


def test_an_old_folder_is_kept_aside(folder: Path) -> None:
    for text in ("old", "new"):
        with atomic_folder(folder / "model", aside=folder / "aside") as new:
            (new / "a").write_text(text)
    assert ((folder / "model" / "a").read_text(), (folder / "aside" / "a").read_text()) == ("new", "old")


@posix
def test_permission_bits(folder: Path) -> None:
    """The umask's for a new file, the old ones for a replaced file, those asked for in any case."""
    previous = os.umask(0o027)
    try:
        atomic_write_text(folder / "a", "new")
        assert mode(folder / "a") == 0o640
        for bits in (0o600, 0o664, 0o400):
            (folder / "a").chmod(bits)
            atomic_write_text(folder / "a", "newer")
            assert mode(folder / "a") == bits
        with atomic_write(folder / "a", mode=0o600) as part:
            assert mode(part) == 0o600
        assert mode(folder / "a") == 0o600
    finally:
        os.umask(previous)


@posix
def test_a_link_is_replaced_and_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "letter").write_text("not yours")
    (folder.parent / "letter").chmod(0o666)
    (folder / "a").symlink_to(folder.parent / "letter")
    atomic_write_text(folder / "a", "new")
    assert not (folder / "a").is_symlink()
    monkeypatch.setattr(atomic, "temporary_name", lambda name: ".a.part")
    (folder / ".a.part").symlink_to(folder.parent / "letter")
    with pytest.raises(FileExistsError):
        atomic_write_text(folder / "a", "newer")
    assert (folder.parent / "letter").read_text() == "not yours"


def test_two_writers_at_once_do_not_mix(folder: Path) -> None:
    with atomic_write(folder / "a") as one:
        one.write_text("one, h")
        with atomic_write(folder / "a") as other:
            other.write_text("other")
        assert (folder / "a").read_text() == "other"
        one.write_text("one, whole")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "one, whole"}


def test_what_a_killed_process_left_goes_after_a_day(folder: Path) -> None:
    names = [".a.0123abcd.part", ".a.89abcdef.part", ".b.0123abcd.part", ".a.part"]
    for name in names:
        (folder / name).write_text("left")
        os.utime(folder / name, (0, 0))
    os.utime(folder / names[1])  # perhaps still being written
    atomic_write_text(folder / "a", "new")
    assert {path.name for path in folder.iterdir()} == {"a", *names[1:]}


def test_a_temporary_file_does_not_stay(folder: Path) -> None:
    with temporary_file(folder / "a") as part:
        part.write_text("new")
        os.link(part, folder / "a")
    assert [path.name for path in folder.iterdir()] == ["a"]
