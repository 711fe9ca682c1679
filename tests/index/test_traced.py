"""Commands in a hostile folder, traced by strace: nothing outside it is written, truncated, renamed or removed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import file_trace
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
needs_strace = pytest.mark.skipif(not file_trace.has_strace(), reason="strace is not here, or may not trace")

# What is no file of the user's: where output goes, what the kernel shows of this process, and memory that processes
# share (semaphores of multiprocessing).
NO_FILES = ("/dev/null", "/dev/tty", "/dev/pts/", "/proc/self/", "/dev/shm/", "pipe:", "socket:", "anon_inode:")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('openat(AT_FDCWD</w>, "a", O_RDONLY|O_CLOEXEC) = 3</w/a>', []),
        ('openat(AT_FDCWD</w>, "a", O_RDWR|O_CREAT, 0666) = 3</x/b c>', [("openat", "/x/b c")]),
        ('openat(3</w>, "a", O_WRONLY|O_TRUNC) = -1 ELOOP (Too many levels of symbolic links)', []),
        ('openat(AT_FDCWD</w>, "a\\"b", O_WRONLY) = 4</w/a\\"b>', [("openat", '/w/a"b')]),
        ("ftruncate(3</w/lock>, 0) = 0", [("ftruncate", "/w/lock")]),
        ('unlinkat(5</w/folder>, "old", 0) = 0', [("unlinkat", "/w/folder/old")]),
        ('renameat2(5</w>, "a", 6</v>, "b", RENAME_NOREPLACE) = 0', [("renameat2", "/w/a"), ("renameat2", "/v/b")]),
        ('rename("/w/a", "/v/b") = 0', [("rename", "/w/a"), ("rename", "/v/b")]),
        ('mkdir("/w/\\303\\244", 0777) = 0', [("mkdir", "/w/ä")]),
        ('utimensat(7</w/a>, NULL, [UTIME_NOW, UTIME_NOW], 0) = 0', [("utimensat", "/w/a")]),
        ('access("/w/a", W_OK) = 0', []),
        ('readlink("/w/a", "b", 4095) = 1', []),
        ("+++ exited with 0 +++", []),
    ],
)  # fmt: skip
def test_lines_of_strace_are_parsed(line: str, wanted: list[tuple[str, str]]) -> None:
    assert list(file_trace.changes(line)) == wanted


@needs_strace
def test_every_kind_of_change_is_detected(tmp_path: Path) -> None:
    """Also through a link, relative to an open folder, and in a child process."""
    (tmp_path / "kept").write_text("x")
    (tmp_path / "link").symlink_to("kept")
    for name in ("cut", "gone", "old"):
        (tmp_path / name).write_text("x")
    script = (
        "import os, subprocess, sys; here = os.open('.', os.O_RDONLY); os.open('link', os.O_RDWR);"
        "os.truncate('cut', 0); os.unlink('gone', dir_fd=here);"
        "os.rename('old', 'new', src_dir_fd=here, dst_dir_fd=here);"
        "os.mkdir('folder');"
        "subprocess.run([sys.executable, '-S', '-c', 'open(\"child\", \"w\")'])"
    )
    code, changes = file_trace.traced([sys.executable, "-S", "-c", script], cwd=tmp_path)
    assert code == 0
    assert {change.path for change in changes} == {
        str(tmp_path / name) for name in ("kept", "cut", "gone", "old", "new", "folder", "child")
    }


COMMANDS_OF_AN_INDEX = (
    ["search", "a red square", "{folder}"],
    ["index", "{folder}"],
    ["index", "duplicates", "{folder}"],
    ["doctor", "{folder}", "--repair"],
)
# Which files of an index are links: by their names or endings, or all of them.
LINKED = ("all", "lock", ".gitignore", "catalog.sqlite", "catalog.sqlite-journal", ".vectors", ".rows", "rows.json")
SCRIPT = """
import json, sys
from diptych.cli import run
for line in json.loads(sys.argv[1]):
    run(line)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a user with pictures and their index."""
    home = tmp_path_factory.mktemp("home")
    (home / "photos").mkdir()
    for index in range(3):
        Image.new("RGB", (20, 20), (255 - 80 * index, 10, 80 * index)).save(home / "photos" / f"{index}.png")
    photos = str(home / "photos")
    subprocess.run(script([["index", photos], ["search", "red", photos]]), env=environment(home), check=True)
    assert (home / "photos" / ".diptych" / "nearest-picture" / "rows.json").is_file()
    return home


def script(lines: list[list[str]]) -> list[str]:
    """A program that runs these command lines one after another."""
    return [sys.executable, "-c", SCRIPT, json.dumps(lines)]


def environment(home: Path) -> dict[str, str]:
    (home / "tmp").mkdir(exist_ok=True)
    mine = {
        "HOME": home,
        "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
        "XDG_CONFIG_HOME": home / "config",
        "TMPDIR": home / "tmp",
    }
    paths = {name: str(path) for name, path in mine.items()}
    return {**os.environ, **paths, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def linked(photos: Path, outside: Path, which: str) -> None:
    """Replace files of the index by links to identical files outside; missing files become dangling links."""
    outside.mkdir(parents=True)
    index = photos / ".diptych"
    more = [index / name for name in ("lock", ".gitignore", "catalog.sqlite-journal")]
    for path in {*index.rglob("*"), *more}:
        if path.is_dir() or which not in ("all", path.name, path.suffix):
            continue
        target = outside / path.name
        if path.exists():
            shutil.move(path, target)
        path.symlink_to(target)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_strace
def test_nothing_outside_a_hostile_folder_is_changed(home: Path, tmp_path: Path) -> None:
    """Each file of the index is a link, one at a time and all at once."""
    lines, outside, index_dirs = list[list[str]](), home / "outside", list[Path]()
    for number, which in enumerate(LINKED):
        photos = home / f"photos-{number}"
        shutil.copytree(home / "photos", photos)
        linked(photos, outside / str(number), which)
        assert [path for path in (photos / ".diptych").rglob("*") if path.is_symlink()], which
        lines += [[part.format(folder=photos) for part in line] for line in COMMANDS_OF_AN_INDEX]
        index_dirs.append(photos / ".diptych")
    before = contents(outside)
    code, changed = file_trace.traced(script(lines), env=environment(home), cwd=tmp_path)
    assert code == 0
    own = tuple(f"{path}/" for path in (*index_dirs, os.environ["XDG_CACHE_HOME"], home / "config", home / "tmp"))
    assert any(path.startswith(own) for _, path in changed)  # something was done, and seen
    assert sorted(set(changed) - {one for one in changed if one.path.startswith((*own, *NO_FILES))}) == []
    assert contents(outside) == before
