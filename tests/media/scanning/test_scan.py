"""Which files of a folder are found, which are left out and by which rule."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.media.items import File
from diptych.media.scanning.image_files import find_images
from diptych.media.scanning.scan import FolderScan, scan


def made(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def paths(root: Path, **options: Any) -> list[str]:
    return [file.path for file in scan(root, **options)]


def finished(root: Path, **options: Any) -> tuple[list[File], FolderScan]:
    found = scan(root, **options)
    return list(found), found


def test_kinds_go_by_the_ending_of_the_name(tmp_path: Path) -> None:
    names = {"a.JPG": "picture", "b.heic": "picture", "c.CR3": "picture", "d.MOV": "video", "e.md": "text"}
    made(tmp_path, *names, "f.TXT", "g.pdf", "jpg", "noending", "h.jpg.bak")
    files, found = finished(tmp_path)
    assert {file.path: file.kind for file in files} == {**names, "f.TXT": "text"}
    assert found.skipped == {"of another kind": 4}
    assert not found.failures


def test_a_file_has_its_size_and_time(tmp_path: Path) -> None:
    made(tmp_path, "below/a.jpg")
    os.utime(tmp_path / "below/a.jpg", ns=(5, 1_700_000_000_123_456_789))
    assert list(scan(tmp_path)) == [File("below/a.jpg", "picture", 1, 1_700_000_000_123_456_789)]


def test_pictures_are_those_that_find_images_sees(tmp_path: Path) -> None:
    made(tmp_path, "a.jpg", "x/b.HEIC", ".c.jpg", "@eaDir/d.jpg", "node_modules/e.png", "f.qoi", "g.txt", ".h/i.jpg")
    assert sorted(tmp_path / path for path in paths(tmp_path) if path != "g.txt") == find_images(tmp_path)


def test_what_programs_keep_is_left_out_even_when_hidden_is_asked_for(tmp_path: Path) -> None:
    own = ".git", ".diptych", "@eaDir", "__MACOSX", "$RECYCLE.BIN", "My Previews.lrdata"
    made(tmp_path, *(f"{folder}/a.jpg" for folder in own), ".hidden/b.jpg", ".c.jpg", "._d.jpg")
    made(tmp_path, "P.photoslibrary/originals/0/e.heic", "P.photoslibrary/resources/derivatives/f.jpg")
    files, found = finished(tmp_path)
    assert [file.path for file in files] == ["P.photoslibrary/originals/0/e.heic"]
    assert found.skipped == {"of a program's own": 7, "hidden": 3}
    assert sorted(paths(tmp_path, hidden=True)) == [".c.jpg", ".hidden/b.jpg", "P.photoslibrary/originals/0/e.heic"]


@pytest.mark.parametrize("way", ["by name", "from within", "by a link", "with a slash"])
def test_an_apple_library_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    library = tmp_path / "P.photoslibrary"
    made(library, "originals/0/e.heic", "resources/derivatives/e.jpg", "database/x.jpg")
    (tmp_path / "link").symlink_to(library)
    monkeypatch.chdir(library)
    root = {"by name": f"{library}", "from within": ".", "by a link": f"{tmp_path}/link", "with a slash": f"{library}/"}
    assert [file.path for file in scan(root[way])] == ["originals/0/e.heic"]


def test_an_apple_library_behind_a_link(tmp_path: Path) -> None:
    made(tmp_path, "elsewhere/P.photoslibrary/originals/0/e.heic", "elsewhere/P.photoslibrary/resources/e.jpg")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "photos").symlink_to(tmp_path / "elsewhere" / "P.photoslibrary")
    assert paths(tmp_path / "here", follow_links=True) == ["photos/originals/0/e.heic"]
    assert paths(tmp_path / "here", under="photos", follow_links=True) == ["photos/originals/0/e.heic"]
    assert paths(tmp_path / "here", under="photos") == []


@pytest.mark.parametrize(
    ("pattern", "left_out"),
    [
        ("*.gif", {"a.gif", "x/b.gif", "x/y/c.gif"}),
        ("x", {"x/b.gif", "x/d.jpg", "x/y/c.gif"}),
        ("x/*.gif", {"x/b.gif"}),
        ("x/**/*.gif", {"x/b.gif", "x/y/c.gif"}),
        ("/a.gif", {"a.gif"}),
        ("y/", {"x/y/c.gif"}),
        ("d.jpg/", set()),
        ("[!a].*", {"x/b.gif", "x/d.jpg", "x/y/c.gif"}),
        ("?.gif", {"a.gif", "x/b.gif", "x/y/c.gif"}),
        ("[.gif", set()),
        ("A.GIF", set()),
    ],
)
def test_exclude(tmp_path: Path, pattern: str, left_out: set[str]) -> None:
    everything = {"a.gif", "x/b.gif", "x/d.jpg", "x/y/c.gif"}
    made(tmp_path, *everything)
    assert set(paths(tmp_path, exclude=[pattern])) == everything - left_out


def test_a_pattern_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"exclude: '\[z-a\]' is no pattern"):
        scan(tmp_path, exclude=["[z-a]"])


@given(st.text("ab[]!*?/\\-^.", max_size=8))
def test_any_pattern_is_a_pattern_or_is_refused(pattern: str) -> None:
    with contextlib.suppress(ValueError):  # re.error is none
        list(scan(Path(__file__).parents[2] / "golden", exclude=[pattern]))


def test_links(tmp_path: Path) -> None:
    root, away = made(tmp_path / "root", "a/1.jpg"), made(tmp_path / "away", "2.jpg", "deep/3.jpg")
    (root / "0-again").symlink_to(root / "a")
    (root / "loop").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    (root / "out").symlink_to(away)
    (root / "out-too").symlink_to(away)
    (root / "inner").symlink_to(away / "deep")
    (root / "file.jpg").symlink_to(away / "2.jpg")
    (root / "gone.jpg").symlink_to(root / "nowhere")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    files, found = finished(root, follow_links=True)
    assert [file.path for file in files] == ["file.jpg", "a/1.jpg", "inner/3.jpg", "out/2.jpg"]
    assert found.skipped == {"linked twice": 5}
    assert {path: failure.reason for path, failure in found.failures.items()} == {
        "gone.jpg": "broken link",
        "self.jpg": "broken link",
    }


def test_links_that_lead_out_of_the_folder_are_counted_and_left_out(tmp_path: Path) -> None:
    away = made(tmp_path / "away", "2.jpg", "notes.txt", "deep/3.jpg", "cat.txt", "x.pdf")
    root = made(tmp_path / "root", "a/1.jpg", "a/notes.md", "cat.jpg")
    for name in ("2.jpg", "notes.txt", "deep", "cat.txt", "x.pdf"):
        (root / name).symlink_to(away / name)
    (root / "up").symlink_to("..")
    (root / "gone.jpg").symlink_to(away / "nowhere")
    (root / "root-too").symlink_to(tmp_path / "root-2")  # begins as the root's own name
    made(tmp_path / "root-2", "4.jpg")
    (root / "within.txt").symlink_to("a/notes.md")
    (root / "round.jpg").symlink_to("../root/a/1.jpg")  # goes out, and comes back
    files, found = finished(root)
    assert [file.path for file in files] == ["cat.jpg", "round.jpg", "within.txt", "a/1.jpg", "a/notes.md"]
    assert next(file for file in files if file.path == "cat.jpg").size == 1  # without the words beside it
    assert found.skipped == {"leads out of the folder": 7, "of another kind": 1}
    assert not found.failures
    (tmp_path / "typed").symlink_to(root)
    assert paths(tmp_path / "typed") == [file.path for file in files]


def test_what_is_no_regular_file_is_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "null.png").symlink_to("/dev/null")
    assert sorted(finished(tmp_path)[1].failures) == ["pipe.jpg"]
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(tmp_path / "socket.mp4"))
    files, found = finished(tmp_path, follow_links=True)
    assert not files
    assert {failure.reason for failure in found.failures.values()} == {"not a regular file"}
    assert sorted(found.failures) == ["null.png", "pipe.jpg", "socket.mp4"]


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "a/1.jpg", "b/2.jpg")
    real = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("a/"):
            raise PermissionError(13, "Permission denied")  # as root, who runs tests in containers, may read it
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files, found = finished(tmp_path)
    assert [file.path for file in files] == ["b/2.jpg"]
    assert found.failures["a"].reason == "unreadable folder"
    assert "a: unreadable folder. Permission denied" in found.failures["a"].message


def test_an_entry_that_does_not_say_what_it_is_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network disk, where each entry is asked for, and one is not answered."""

    class Silent(FolderScan):
        def _sort(self, entry: os.DirEntry[str], folder: str, found: Any) -> None:
            if entry.name == "b":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super()._sort(entry, folder, found)

    made(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    found = Silent(str(tmp_path), None, False, True)
    assert [file.path for file in found] == ["a/1.jpg", "c/3.jpg"]
    assert found.failures["b"].reason == "unreadable folder"


def test_names_of_any_bytes(tmp_path: Path) -> None:
    names = [b"new\nline.jpg", "\N{PILE OF POO} \u05d0.jpg".encode(), b"\xff\xfe.jpg", b" .jpg", b"%00'\".jpg"]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()
    assert {os.fsencode(path) for path in paths(tmp_path)} == set(names)


@pytest.mark.parametrize("name", ["cat.txt", "cat.TXT", "cat.jpg.txt", "cat.xmp", "cat.jpg.xmp"])
def test_a_caption_is_part_of_its_picture(tmp_path: Path, name: str) -> None:
    made(tmp_path, "cat.jpg", "dog.txt", "cat/cat.txt")
    before = {file.path: file for file in scan(tmp_path)}
    (tmp_path / name).write_text("A cat.")
    os.utime(tmp_path / name, ns=(0, 1))  # copied with an older time
    came = {file.path: file for file in scan(tmp_path)}
    assert set(before) == set(came) == {"cat.jpg", "dog.txt", "cat/cat.txt"}
    assert came["cat.jpg"] == before["cat.jpg"]._replace(size=1 + len("A cat."))
    os.utime(tmp_path / name)
    changed = {file.path: file for file in scan(tmp_path)}
    assert changed["cat.jpg"].mtime_ns > came["cat.jpg"].mtime_ns
    (tmp_path / name).unlink()
    assert {file.path: file for file in scan(tmp_path)} == before


def test_a_text_beside_a_video_is_a_text(tmp_path: Path) -> None:
    assert sorted(paths(made(tmp_path, "talk.mp4", "talk.txt", "talk.xmp"))) == ["talk.mp4", "talk.txt"]


def test_each_iteration_looks_anew(tmp_path: Path) -> None:
    _, found = finished(made(tmp_path, "a.jpg", ".b.jpg"))
    made(tmp_path, "c.jpg")
    assert [file.path for file in found] == ["a.jpg", "c.jpg"]
    assert found.skipped == {"hidden": 1}


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "absent")
    with pytest.raises(NotADirectoryError):
        scan(made(tmp_path, "a.jpg") / "a.jpg")


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    made(tmp_path / "real", "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert paths(tmp_path / "link") == ["a.jpg"]
