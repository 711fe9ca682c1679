"""An index's directory that came with the pictures: nothing in it leads a command out of it, or keeps one waiting."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from index_model import InlineReaders, PixelModel, draw

from diptych.cli import FAILED, OK
from diptych.errors import IndexDamagedError, IndexDirectoryError, IndexUnsafeError, VectorFilesError
from diptych.index.local import LocalIndex, open_index
from diptych.media.reading import readers
from diptych.storage.directory import IndexDirectory
from tests.conftest import Cli, Said

POSIX = pytest.mark.skipif(os.name != "posix", reason="making links and FIFOs differs on other systems")
MINE = b"a letter to a friend\n" * 50
LONG_AGO_NS = 1_600_000_000 * 10**9
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("search", "a star"), ("search", "a star", "--no-update"), ("index",), ("index", "duplicates"), ("doctor",),
)  # fmt: skip
NAMES = (
    ".gitignore", "lock", "lock.json", "catalog.sqlite", "catalog.sqlite-journal", "catalog.sqlite-wal",
    "catalog.sqlite-shm", "catalog-new.sqlite", "catalog-new.sqlite-journal", "catalog.sqlite.part", "nearest-picture",
    "nearest-picture/rows.json", "nearest-picture/VECTORS", "nearest-picture/other.gone", "nearest-text",
    "identity.json", "background-0123456789abcdef.npy",
)  # fmt: skip


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with their index."""
    root = tmp_path_factory.mktemp("album")
    for seed in range(4):
        draw(root / f"{seed}.png", seed)
        os.utime(root / f"{seed}.png", (1_600_000_000 + seed,) * 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(readers, "ReaderPool", InlineReaders)
        with open_index(root, model=PixelModel()) as made:
            made.update()
    return root


@pytest.fixture
def index(album: Path, model: PixelModel, tmp_path: Path) -> LocalIndex:
    return open_index(shutil.copytree(album, tmp_path / "pictures"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file of the user's own, elsewhere."""
    path = tmp_path / "home" / "letter.txt"
    path.parent.mkdir()
    path.write_bytes(MINE)
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return path


def is_untouched(mine: Path) -> bool:
    return (
        mine.read_bytes() == MINE and mine.stat().st_mtime_ns == LONG_AGO_NS and os.listdir(mine.parent) == [mine.name]
    )


def place_of(index: LocalIndex, name: str) -> Path:
    """Where it lies, and nothing does any more."""
    path = index.index_dir / name
    if path.name == "VECTORS":
        (path,) = (index.index_dir / "nearest-picture").glob("*.vectors")
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


def a_link(path: Path, mine: Path) -> None:
    path.symlink_to(mine)


def a_dangling_link(path: Path, mine: Path) -> None:
    path.symlink_to(mine.with_name("not-there"))


def a_link_to_a_folder(path: Path, mine: Path) -> None:
    path.symlink_to(mine.parent)


def a_fifo(path: Path, mine: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path, mine: Path) -> None:
    path.unlink(missing_ok=True)
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


THINGS: tuple[tuple[Callable[[Path, Path], None], str], ...] = (
    (a_link, "letter.txt"), (a_dangling_link, "not-there"), (a_link_to_a_folder, "home"), (a_fifo, "a pipe"),
    (a_socket, "a socket"),
)  # fmt: skip


def check_refused(said: Said, path: Path, what: str) -> None:
    assert said.code == FAILED
    assert str(path) in said.err + said.out
    assert what in said.err + said.out
    assert "doctor FOLDER --repair" in said.err or "--repair" in said.out
    assert "Traceback" not in said.err


@POSIX
@pytest.mark.parametrize("name", NAMES)
def test_a_link_in_it_is_neither_followed_nor_kept(cli: Cli, index: LocalIndex, mine: Path, name: str) -> None:
    path = place_of(index, name)
    a_link(path, mine)
    for command, *words in COMMANDS:
        check_refused(cli(command, *words, index.root), path, "letter.txt")
        assert path.is_symlink()
        assert is_untouched(mine)
    said = cli("doctor", index.root, "--repair")
    assert f"{path} is a link to '{mine}'" in said.out
    assert not path.is_symlink()
    assert is_untouched(mine)
    asked = ["--trust"] if name == "identity.json" else []  # without it, the index is a stranger's
    assert cli("index", index.root, *asked).code == OK
    assert cli("doctor", index.root).code == OK
    assert is_untouched(mine)


@POSIX
@pytest.mark.parametrize(("make", "what"), THINGS[1:], ids=[make.__name__ for make, _ in THINGS[1:]])
@pytest.mark.parametrize("name", ["lock", ".gitignore", "catalog.sqlite", "catalog.sqlite-journal", "nearest-picture"])
def test_what_is_no_plain_file_is_refused_by_what_it_is(
    cli: Cli, index: LocalIndex, mine: Path, name: str, make: Callable[[Path, Path], None], what: str
) -> None:
    path = place_of(index, name)
    make(path, mine)
    for command in (("search", "a star"), ("index",), ("doctor",)):
        check_refused(cli(*command, index.root), path, what)
    cli("doctor", index.root, "--repair")
    assert not os.path.lexists(path) or path.is_dir() or path.is_file()
    assert cli("index", index.root).code == OK
    assert is_untouched(mine)


@POSIX
def test_the_doctor_clears_what_keeps_an_index_from_being_made(cli: Cli, index: LocalIndex, mine: Path) -> None:
    shutil.rmtree(index.index_dir)
    index.index_dir.mkdir()
    a_link(index.index_dir / "lock", mine)
    check_refused(cli("index", index.root), index.index_dir / "lock", "letter.txt")
    assert cli("doctor", index.root, "--repair").code == OK
    assert cli("index", index.root).code == OK
    assert is_untouched(mine)


def test_folders_in_the_place_of_small_files(cli: Cli, index: LocalIndex) -> None:
    for name in (".gitignore", "lock.json", "nearest-picture/rows.json"):
        place_of(index, name).mkdir()
    draw(index.root / "new.png", 9)
    assert cli("index", index.root).code == OK
    assert len(index.nearest("picture")) == 5
    assert cli("search", "a star", index.root, "--paths").code == OK


@POSIX
def test_an_index_that_is_a_link_is_refused(cli: Cli, index: LocalIndex, mine: Path) -> None:
    """The catalog elsewhere may be anybody's; who means it names it."""
    elsewhere = index.index_dir.rename(index.root.with_name("elsewhere"))
    before = {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")}
    index.index_dir.symlink_to(elsewhere)
    (index.root / "below").mkdir()
    for folder in (index.root, index.root / "below"):
        for command in (*COMMANDS, ("doctor", "--repair")):
            said = cli(*command, folder)
            assert said.code == FAILED
            assert f"{index.index_dir} is a link to '{elsewhere}'" in said.err
            assert "--index DIR" in said.err
    assert {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")} == before
    assert cli("index", index.root, "--index", elsewhere).code == OK
    assert cli("index", index.root, "--index", index.index_dir).code == FAILED
    named = index.root.with_name("named")
    named.symlink_to(elsewhere)
    assert cli("search", "a star", index.root, "--index", named).code == OK


@POSIX
def test_an_index_that_is_a_dangling_link_is_made_nowhere(cli: Cli, index: LocalIndex, mine: Path) -> None:
    shutil.rmtree(index.index_dir)
    index.index_dir.symlink_to(mine.with_name("not-there"))
    said = cli("index", index.root)
    assert said.code == FAILED
    assert "not-there" in said.err
    assert is_untouched(mine)


@POSIX
@pytest.mark.parametrize("name", ["catalog.sqlite", "lock", "catalog.sqlite-journal", "catalog-new.sqlite"])
def test_a_second_name_of_a_file_elsewhere_is_not_written_to(
    cli: Cli, index: LocalIndex, mine: Path, name: str
) -> None:
    """By a hard link, the bytes of one are those of the other."""
    draw(index.root / "new.png", 9)
    path = place_of(index, name)
    os.link(mine, path)
    for command in (("index",), ("search", "a star")) if name != "catalog-new.sqlite" else (("index", "--reindex"),):
        said = cli(*command, index.root)
        if name != "catalog-new.sqlite":
            assert said.code == FAILED
            assert f"{path} is a hard link" in said.err
        assert is_untouched(mine)
    cli("doctor", index.root, "--repair")
    assert is_untouched(mine)
    assert cli("index", index.root).code == OK
    assert is_untouched(mine)
    assert len(index.catalog.files()) == 5


@POSIX
def test_vectors_with_a_second_name_are_written_anew(cli: Cli, index: LocalIndex, tmp_path: Path) -> None:
    """As in a backup by hard links: what the other name has stays as it is."""
    kept = tmp_path / "kept"
    shutil.copytree(index.index_dir / "nearest-picture", kept, copy_function=os.link)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    draw(index.root / "new.png", 9)
    assert cli("index", index.root).code == OK
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert len(index.nearest("picture")) == 5


def test_a_generation_that_is_a_path_is_no_cache(index: LocalIndex, mine: Path) -> None:
    from diptych.vectors.vector_files import VectorFiles, VectorFilesHeader

    folder = index.directory.directory("nearest-picture")
    header = VectorFilesHeader.read(folder)
    folder.write("rows.json", VectorFilesHeader(**{**vars(header), "generation": "../../../home/letter"}).to_json())
    with pytest.raises(VectorFilesError, match="not the name of a file"):
        VectorFiles.open(folder)


@POSIX
def test_a_device_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(IndexUnsafeError, match="null is a device"):
        IndexDirectory(os.path.dirname(os.devnull)).open(os.path.basename(os.devnull), "rb")


def test_a_lock_of_an_earlier_version_is_no_hindrance(index: LocalIndex) -> None:
    """It said whose it was in the lock itself, which is now opened and never written to."""
    lock = index.index_dir / "lock"
    lock.write_text('{"pid": 1, "host": "here", "since": "yesterday"}')
    with index.locked():
        assert (index.index_dir / "lock.json").exists()
    assert lock.read_text() == '{"pid": 1, "host": "here", "since": "yesterday"}'
    assert not (index.index_dir / "lock.json").exists()


# --- the class


def test_names_that_lead_elsewhere_are_no_names(tmp_path: Path) -> None:
    directory = IndexDirectory(tmp_path)
    for name in ("", ".", "..", "a/b", "/etc", "../a", "a\0b"):
        with pytest.raises(ValueError, match="not the name of a file"):
            directory.read(name, 10)


def test_files_come_and_go(tmp_path: Path) -> None:
    directory = IndexDirectory(tmp_path / "made" / "below")
    assert (directory.exists, directory.names(), directory.status("a"), directory.owner) == (False, [], None, None)
    directory.create()
    directory.create()
    directory.write("a", b"one")
    directory.write("a", b"two")
    directory.add("a", b"three")
    directory.add("b", b"four")
    assert [directory.read(name, 10) for name in directory.names()] == [b"two", b"four"]
    directory.rename("b", "a")
    directory.remove("b")
    assert (directory.names(), directory.size("a"), directory.size("b")) == (["a"], 4, None)
    inner = directory.directory("c")
    inner.create()
    inner.write("d", b"five")
    assert (directory.has_directory("c"), directory.size("c")) == (True, None)
    with pytest.raises(IndexDamagedError, match="is a folder; expected a file"):
        directory.open("c", "rb")
    directory.remove_all("c")
    directory.remove_all("a")
    assert directory.names() == []


def test_more_than_was_wanted_is_not_read(tmp_path: Path) -> None:
    directory = IndexDirectory(tmp_path)
    directory.write("a", bytes(11))
    with pytest.raises(IndexDamagedError, match="more than 10 bytes"):
        directory.read("a", 10)


def test_what_is_opened_to_be_changed_is_not_cut_off(tmp_path: Path) -> None:
    directory = IndexDirectory(tmp_path)
    directory.write("a", b"content")
    for name in ("a", "b"):
        directory.open(name, "r+b", create=True).close()
    assert [directory.read(name, 10) for name in directory.names()] == [b"content", b""]
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "c")):
        directory.open("c", "r+b")
    with pytest.raises(FileExistsError):
        directory.open("a", "xb")


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no folder")
    directory = IndexDirectory(tmp_path / "a")
    assert not directory.exists
    with pytest.raises(IndexDirectoryError, match=r"a is not a folder.*index='DIR'|a is not a folder.*index=DIR"):
        directory.create()


@POSIX
def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path, mine: Path) -> None:
    directory = IndexDirectory(tmp_path / "index")
    directory.create()
    for remove in (directory.remove, directory.remove_all):
        (directory.path / "a").symlink_to(mine.parent)
        remove("a")
        assert directory.names() == []
    (directory.path / "a").symlink_to(mine)
    directory.write("a", b"mine now")
    assert (directory.read("a", 10), is_untouched(mine)) == (b"mine now", True)


@POSIX
def test_without_handles_links_are_refused_too(tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which opens no directories."""
    monkeypatch.setattr("diptych.storage.directory._HAS_HANDLES", False)
    directory = IndexDirectory(tmp_path / "index")
    directory.create()
    directory.write("a", b"one")
    assert directory.read("a", 10) == b"one"
    (directory.path / "b").symlink_to(mine)
    for mode in ("rb", "r+b"):
        with pytest.raises(IndexUnsafeError, match="letter"):
            directory.open("b", mode)
    assert [found.name for found in IndexDirectory(directory.path).foreign()] == []
    (directory.path / "lock").symlink_to(mine)
    assert [found.name for found in directory.foreign()] == ["lock"]
    (tmp_path / ".diptych").symlink_to(directory.path)
    with pytest.raises(IndexUnsafeError, match="is a link to"):
        IndexDirectory(tmp_path / ".diptych").names()
    assert is_untouched(mine)
