"""Shards that are compressed, and what members of shards are called."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.data.loading.stream import indexed
from diptych.data.samples import Stream
from diptych.data.sources import shards
from diptych.data.sources.opening import all_captions, open_source
from diptych.errors import DataError
from tests.conftest import write_tar


def zstandard(data: bytes) -> bytes:
    return pytest.importorskip("pyarrow").compress(data, codec="zstd", asbytes=True)


PACKED = [(".tar.gz", gzip.compress), (".TGZ", gzip.compress), (".tar.bz2", bz2.compress), (".tar.xz", lzma.compress)]


def packed(folder: Path, ending: str, pack: Callable[[bytes], bytes], keys: str = "ab") -> Path:
    plain = write_tar(
        folder / "x", {f"{key}.{kind}": f"{key} {kind}".encode() for key in keys for kind in ("jpg", "txt")}
    )
    path = folder / f"{keys}{ending}"
    path.write_bytes(pack(plain.read_bytes()))
    plain.unlink()
    return path


@pytest.mark.parametrize(("ending", "pack"), [*PACKED, (".tar.zst", zstandard)])
def test_compressed_shards(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    path = packed(tmp_path, ending, pack)
    for place in (path, tmp_path):
        source = open_source(place)
        assert (source.form, list(all_captions(source))) == ("tar shards, unpacked", ["a txt", "b txt"])
        assert not isinstance(source, Stream)
        assert source[1].image == b"b jpg"


def test_plain_ones_beside_them(tmp_path: Path) -> None:
    packed(tmp_path, ".tar.gz", gzip.compress, "ab")
    packed(tmp_path, ".tar", bytes, "cd")
    assert list(all_captions(open_source(tmp_path))) == ["a txt", "b txt", "c txt", "d txt"]


def test_large_ones_are_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "UNPACK_BYTES", 10)
    packed(tmp_path, ".tar.gz", gzip.compress, "ab")
    packed(tmp_path, ".tar", bytes, "cd")
    stream = open_source(tmp_path)
    assert isinstance(stream, Stream)
    assert list(all_captions(indexed(stream))) == ["a txt", "b txt", "c txt", "d txt"]


def test_cut_and_damaged_ones(tmp_path: Path) -> None:
    """What lies before the cut is read; what is no compressed file says so."""
    path = packed(tmp_path, ".tar.gz", lambda data: gzip.compress(data, 0), "abcdefgh")
    path.write_bytes(path.read_bytes()[:4096])
    source = open_source(path)
    assert source.skipped == {"damage in abcdefgh.tar": 1}
    assert next(iter(all_captions(source))) == "a txt"
    for ending in ("gz", "bz2", "xz"):
        (tmp_path / f"no.tar.{ending}").write_bytes(b"this is no archive")
        with pytest.raises(DataError, match=rf"no\.tar\.{ending} cannot be unpacked"):
            open_source(tmp_path / f"no.tar.{ending}")


@pytest.mark.parametrize(
    ("image", "text", "content"),
    [
        ("a.img", "a.text", b"words"), ("a.JPG", "a.TXT", b"words"), ("a.webp", "a.caption", b"words"),
        ("a.jpg", "a.json", b'{"text": "words"}'), ("d.e/a.png", "d.e/a.png.txt", b"words"),
        ("a.jpeg", "a.json", b'{"url": "x", "texts": ["words"]}'), ("a.jpg", "a.jpg.json", b'{"captions": "words"}'),
    ],
)  # fmt: skip
def test_names_of_members(tmp_path: Path, image: str, text: str, content: bytes) -> None:
    source = open_source(write_tar(tmp_path / "0.tar", {image: b"picture", text: content}))
    assert not isinstance(source, Stream)
    assert (source[0].image, source[0].captions, source.skipped) == (b"picture", ("words",), {})


def test_what_macos_lays_beside_each_file_is_no_sample(tmp_path: Path) -> None:
    files = {"d/a.jpg": b"picture", "d/a.txt": b"words"}
    beside = {f"d/._{name[2:]}": b"\0\5\26\7" for name in files} | {f"__MACOSX/{name}": b"\0\5" for name in files}
    source = open_source(write_tar(tmp_path / "0.tar", beside | files))
    assert (list(all_captions(source)), source.skipped) == (["words"], {})


def test_a_caption_goes_before_tags(tmp_path: Path) -> None:
    files = {"a.jpg": b"p", "a.txt": b"tag, tag", "a.caption": b"words", "a.json": b'{"caption": null}'}
    assert list(all_captions(open_source(write_tar(tmp_path / "0.tar", files)))) == ["words"]


def test_shards_for_training_are_told_from_the_others(tmp_path: Path) -> None:
    for name in ("train-0.tar", "val-0.tar", "more.tar"):
        write_tar(tmp_path / name, {f"{name}.jpg": b"p", f"{name}.txt": name.encode()})
    source = open_source(tmp_path)
    assert list(all_captions(source)) == ["more.tar", "train-0.tar"]
    assert source.form == "tar shards, without val-0.tar"
    assert list(all_captions(open_source(tmp_path, held_out=True))) == ["val-0.tar"]


def test_what_img2dataset_leaves(tmp_path: Path) -> None:
    """Shards or folders, with a table of what was fetched beside them."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    rows = {"url": ["http://x/a.jpg"], "caption": ["words"], "key": ["000000000"], "status": ["success"]}
    for name in ("shards", "files"):
        (tmp_path / name).mkdir()
        pyarrow.parquet.write_table(pa.table(rows), tmp_path / name / "00000.parquet")
        (tmp_path / name / "00000_stats.json").write_text('{"count": 1, "status_dict": {"success": 1}}')
    sample = {"jpg": b"picture", "txt": b"words", "json": b'{"caption": "words", "url": "http://x/a.jpg", "key": "0"}'}
    write_tar(tmp_path / "shards" / "00000.tar", {f"000000000.{end}": content for end, content in sample.items()})
    (tmp_path / "files" / "00000").mkdir()
    for end, content in sample.items():
        (tmp_path / "files" / "00000" / f"000000000.{end}").write_bytes(content)
    for name, form in (("shards", "tar shards"), ("files", "pictures with caption files")):
        source = open_source(tmp_path / name)
        assert (list(all_captions(source)), source.form) == (["words"], form)
