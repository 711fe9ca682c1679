"""Only plain files are opened, and none is waited for."""

import os
import socket
import sys
from pathlib import Path

import pytest

from diptych.errors import FileError
from diptych.untrusted.regular_files import open_file, read_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these kinds of files are POSIX's")


def kinds(folder: Path) -> dict[str, Path]:
    """A path of each kind that is no file."""
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(folder / "socket"))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("pipe")
    found = {"a pipe": folder / "pipe", "a socket": folder / "socket", "a folder": folder / "folder"}
    return found | {"a pipe behind": folder / "link", "a device": Path(os.devnull)}


def test_what_is_no_file_is_refused_by_what_it_is(tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for without end."""
    for kind, path in kinds(tmp_path).items():
        for read in (open_file, read_file):
            with pytest.raises(
                FileError, match=rf"{path.name} is {kind.removesuffix(' behind')}; expected a file"
            ) as caught:
                read(path)
            assert caught.value.reason == "not a regular file"


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="no /proc")
@pytest.mark.parametrize("place", ["/proc/self/environ", "/proc/version", "/proc/self/fd/../maps"])
def test_what_the_system_makes_up_is_no_file(place: str, tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(place)
    for path in (place, tmp_path / "link.jpg"):
        with pytest.raises(FileError, match="is an entry of /proc or /sys"):
            read_file(path)


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "empty").write_bytes(b"")
    assert read_file(tmp_path / "a") == read_file(tmp_path / "link") == b"hello"
    assert read_file(tmp_path / "empty") == b""
    with pytest.raises(FileError, match="a has 5 bytes; at most 4 are read") as caught:
        read_file(tmp_path / "a", 4)
    assert caught.value.reason == "too large"


def test_no_more_is_read_than_is_there(tmp_path: Path) -> None:
    """Of a file with holes of a terabyte nothing is read at all."""
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileError, match="1,099,511,627,776 bytes"):
        read_file(tmp_path / "a")


def test_errors_of_the_system_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nothing")
    with pytest.raises(FileError, match="cannot be the path of a file") as caught:
        read_file(f"{tmp_path}/a\0b")
    assert caught.value.reason == "damaged path"
