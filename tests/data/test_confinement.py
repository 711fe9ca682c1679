"""Which files a source may name: those of the folder that the user named, wherever links lead."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.data.confinement import AllowedFolders
from diptych.data.samples import Source, Stream
from diptych.data.sources.opening import open_source
from diptych.errors import DataError, FileError


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder that is named, with nothing beside it but `secret`, which nobody named."""
    folder = tmp_path / "home" / "set"
    folder.mkdir(parents=True)
    (folder.parent / "secret").mkdir()
    for name in ("own.jpg", "own.txt"):
        (folder.parent / "secret" / name).write_text(f"the user's {name}")
    for name in "ab":
        (folder / f"{name}.jpg").write_bytes(b"picture " + name.encode())
    return folder


def source_of(spec: object, **options: bool) -> Source:
    source = open_source(str(spec), **options)
    assert not isinstance(source, Stream)
    return source


def pictures(source: Source) -> list[bytes]:
    return [image for index in range(len(source)) if isinstance(image := source[index].image, bytes)]


def as_csv(folder: Path, names: list[str]) -> Path:
    (folder / "t.csv").write_text("image,caption\n" + "".join(f'"{name}",words\n' for name in names))
    return folder / "t.csv"


def as_jsonl(folder: Path, names: list[str]) -> Path:
    rows = ({"file_name": name, "text": "words"} for name in names)
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "metadata.jsonl"


def as_coco(folder: Path, names: list[str]) -> Path:
    images = [{"id": at, "file_name": name} for at, name in enumerate(names)]
    notes = [{"image_id": at, "caption": "words"} for at in range(len(names))]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return folder / "captions.json"


def as_parquet(folder: Path, names: list[str]) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": names, "caption": ["words"] * len(names)}), folder / "metadata.parquet")
    return folder / "metadata.parquet"


def as_structs(folder: Path, names: list[str]) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    cells = [{"bytes": None, "path": name} for name in names]
    pq.write_table(pa.table({"image": cells, "caption": ["words"] * len(names)}), folder / "t.parquet")
    return folder / "t.parquet"


TABLES = [as_csv, as_jsonl, as_coco, as_parquet]


@pytest.mark.parametrize("write", TABLES)
@pytest.mark.parametrize("named", ["table", "folder"])
def test_rows_that_lead_outside_are_left_out_and_counted(
    tmp_path: Path, write: Callable[[Path, list[str]], Path], named: str
) -> None:
    """By `..`, by an absolute path, through a link of a file and of a folder."""
    secret = tmp_path.parent / "secret" / "own.jpg"
    (tmp_path / "link.jpg").symlink_to(secret)
    (tmp_path / "linked").symlink_to(secret.parent)
    outside = ["../secret/own.jpg", str(secret), "link.jpg", "linked/own.jpg"]
    table = write(tmp_path, ["a.jpg", *outside, "b.jpg", "../secret/own.jpg"])
    spec = table if named == "table" else tmp_path
    source = source_of(spec)
    assert pictures(source) == [b"picture a", b"picture b"]
    named_first = f"../secret/own.jpg, {secret!s:.100}, link.jpg, ..."
    reason = f"a file outside of the source ({named_first}), which allow_outside lets in"
    assert source.skipped.pop(reason) == 5  # rows
    assert bool(source.skipped) == (named == "folder")  # whose own link.jpg and linked/ are, too
    assert all(reason.startswith("a file outside of the source (link.jpg, linked)") for reason in source.skipped)
    everything = pictures(source_of(spec, allow_outside=True))
    assert everything == [b"picture a", *[b"the user's own.jpg"] * 4, b"picture b"]


def test_pictures_in_parquet_that_are_given_by_a_path(tmp_path: Path) -> None:
    source = source_of(as_structs(tmp_path, ["a.jpg", "../secret/own.jpg", "/dev/zero", "b.jpg"]))
    assert pictures(source) == [b"picture a", b"picture b"]
    assert source.skipped == {"outside": 2}


@pytest.mark.parametrize("write", TABLES)
def test_where_all_lie_outside_that_is_said(tmp_path: Path, write: Callable[[Path, list[str]], Path]) -> None:
    table = write(tmp_path, ["../secret/own.jpg", str(tmp_path.parent / "secret/own.txt")])
    with pytest.raises(DataError, match=r"its pictures are outside its folder \(\.\./secret/own\.jpg, .* allow_out"):
        open_source(table)
    assert len(source_of(table, allow_outside=True)) == 2


def test_of_a_folder_whose_table_names_what_lies_elsewhere_the_same_is_said(tmp_path: Path) -> None:
    folder, other = tmp_path / "top" / "set", tmp_path / "top" / "other"
    folder.mkdir(parents=True)
    other.mkdir()
    (folder / "captions.csv").write_text("image,caption\n../other/a.jpg,a\n../other/b.jpg,b\n")
    for name in "ab":
        (other / f"{name}.jpg").write_bytes(name.encode())
    with pytest.raises(DataError, match=r"captions.csv: its pictures are outside .* allow_outside=True reads them"):
        open_source(folder)
    assert len(source_of(folder, allow_outside=True)) == len(source_of(tmp_path / "top")) == 2


@pytest.mark.parametrize(
    "name", [r"..\secret\own.jpg", r"C:\secret\own.jpg", r"\\host\share\own.jpg", "//host/own.jpg"]
)
@pytest.mark.parametrize("allow_outside", [False, True])
def test_names_as_windows_has_them_are_looked_for_here_alone(tmp_path: Path, name: str, allow_outside: bool) -> None:
    (tmp_path / "own.jpg").write_bytes(b"here")
    source = source_of(as_jsonl(tmp_path, ["a.jpg", name]), allow_outside=allow_outside)
    assert source[0].image == b"picture a"
    if name.startswith("..") and not allow_outside:
        with pytest.raises(FileNotFoundError):
            source[1]
    else:
        assert source[1].image == (b"the user's own.jpg" if name.startswith("..") else b"here")


@pytest.mark.parametrize("name", ["file:///etc/passwd", "http://127.0.0.1:9/x.jpg", "data:image/png;base64,AAAA"])
def test_addresses_are_names_of_files_that_are_not_there(tmp_path: Path, name: str) -> None:
    source = source_of(as_jsonl(tmp_path, ["a.jpg", name]))
    assert source[0].image == b"picture a"
    with pytest.raises(FileNotFoundError):
        source[1]


def test_a_table_for_tables_has_its_pictures_in_the_folder_above(tmp_path: Path) -> None:
    """As COCO has them; what lies above that is outside."""
    (tmp_path / "annotations").mkdir()
    table = as_coco(tmp_path / "annotations", ["../a.jpg", "../b.jpg", "../../secret/own.jpg"])
    source = source_of(table)
    assert pictures(source) == [b"picture a", b"picture b"]
    assert sum(source.skipped.values()) == 1
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="are outside"):
        open_source(as_csv(tmp_path / "other", ["../a.jpg"]))
    assert pictures(source_of(tmp_path / "other" / "t.csv", allow_outside=True)) == [b"picture a"]


# --- links of a folder


def test_pictures_behind_links(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("words")
    (tmp_path / "own.jpg").symlink_to(tmp_path.parent / "secret" / "own.jpg")
    (tmp_path / "own.txt").write_text("words")
    (tmp_path / "again.jpg").symlink_to("a.jpg")  # which leads nowhere else
    (tmp_path / "again.txt").symlink_to("a.txt")
    source = source_of(tmp_path)
    assert pictures(source) == [b"picture a", b"picture a", b"picture b"]
    assert sum(number for reason, number in source.skipped.items() if "outside of the source (own.jpg)" in reason) <= 1
    assert len(source_of(tmp_path, allow_outside=True)) == 4


def test_caption_files_behind_links(tmp_path: Path) -> None:
    """A text of the user's own is no caption."""
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "b.txt").symlink_to(tmp_path.parent / "secret" / "own.txt")
    source = source_of(tmp_path)
    assert [source.captions(at) for at in range(len(source))] == [("words",)]
    assert source.skipped["a file outside of the source (b.txt), which allow_outside lets in"] == 1
    allowed = source_of(tmp_path, allow_outside=True)
    assert [allowed.captions(at) for at in range(2)] == [("words",), ("the user's own.txt",)]
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=r"its caption files are outside its folder \(b\.txt\)"):
        open_source(tmp_path)


def test_tables_behind_links(tmp_path: Path) -> None:
    elsewhere = as_csv(tmp_path.parent / "secret", ["a.jpg", "b.jpg"])
    (tmp_path / "captions.csv").symlink_to(elsewhere)
    with pytest.raises(DataError, match="no caption"):
        open_source(tmp_path)
    assert len(source_of(tmp_path, allow_outside=True)) == 2


def test_shards_behind_links(tmp_path: Path) -> None:
    from tests.conftest import write_tar

    inside = write_tar(tmp_path / "0.tar", {"k.jpg": b"x", "k.txt": b"words"})
    write_tar(tmp_path.parent / "secret" / "1.tar", {"o.jpg": b"x", "o.txt": b"other"})
    (tmp_path / "1.tar").symlink_to(tmp_path.parent / "secret" / "1.tar")
    source = source_of(tmp_path)
    assert source.captions(0) == ("words",)
    assert source.skipped == {"a file outside of the source (1.tar), which allow_outside lets in": 1}
    assert len(source_of(tmp_path, allow_outside=True)) == 2
    inside.unlink()
    with pytest.raises(DataError, match=r"its files are outside its folder \(1\.tar\)"):
        open_source(tmp_path)


# --- what is no file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_devices_cost_their_rows_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    source = source_of(as_jsonl(tmp_path, ["a.jpg", "pipe.jpg"]))
    assert source[0].image == b"picture a"
    with pytest.raises(FileError, match=r"pipe\.jpg is a pipe"):
        source[1]
    named = source_of(as_jsonl(tmp_path, ["a.jpg", "/dev/zero", "zero.jpg"]), allow_outside=True)
    for index in (1, 2):
        with pytest.raises(FileError, match=r"is a device"):
            named[index]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json", "t.parquet", "t.tar", "t.tar.gz"])
def test_a_source_that_is_a_pipe_is_refused(tmp_path: Path, name: str) -> None:
    """Alone, and in a folder."""
    os.mkfifo(tmp_path / name)
    for spec in (tmp_path / name, tmp_path):
        with pytest.raises((DataError, FileError)):
            open_source(spec)


def test_the_folder_itself_may_be_a_link_or_the_top(tmp_path: Path) -> None:
    (tmp_path.parent / "alias").symlink_to(tmp_path)
    allowed = AllowedFolders([tmp_path.parent / "alias"])
    assert allowed.contains(tmp_path / "a.jpg")
    assert allowed.contains(tmp_path.parent / "alias" / "a.jpg")
    assert not allowed.contains(tmp_path.parent / "set.jpg")  # whose name begins alike
    assert AllowedFolders([Path("/")]).contains(tmp_path / "a.jpg")
