"""Sources beyond folders and local shards: tables, Parquet, datasets, shards over HTTP; and what is damaged."""

import contextlib
import csv
import io
import json
import pickle
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.data.loading.augmentation import NONE
from diptych.data.loading.loader import Loader, MixtureSource
from diptych.data.loading.stream import fetched, indexed
from diptych.data.samples import Source, Stream
from diptych.data.sources import opening, remote
from diptych.data.sources.opening import all_captions, open_source
from diptych.data.sources.shards import expand_braces
from diptych.data.tables import parquet
from diptych.errors import DataError
from diptych.untrusted import downloading
from tests.conftest import write_tar


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """With nothing beside it, for a folder's neighbours may say what is in it."""
    place = tmp_path / "place" / "set"
    place.mkdir(parents=True)
    return place


def picture(shade: int = 200, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 20), (shade, 30, 30)).save(file, form)
    return file.getvalue()


def shard(path: Path, start: int, count: int) -> Path:
    files = {}
    for i in range(start, start + count):
        files |= {f"{i:04}.jpg": picture(i), f"{i:04}.txt": f"number {i}".encode()}
    return write_tar(path, files)


def source_of(spec: object, **columns: str) -> Source:
    source = open_source(str(spec), **columns)
    assert not isinstance(source, Stream)
    return source


def pairs(source: Source) -> list[tuple[bytes | Image.Image, tuple[str, ...]]]:
    assert [source.captions(i) for i in range(len(source))] == [source[i].captions for i in range(len(source))]
    return [(source[i].image, source[i].captions) for i in range(len(source))]


# --- folders


def test_class_folders(tmp_path: Path) -> None:
    for name in ("golden_retriever", "red fox"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(picture())
    (tmp_path / "red fox" / "2.png").write_bytes(picture(form="PNG"))
    source = source_of(tmp_path)
    assert [captions for _, captions in pairs(source)] == [("golden retriever",), ("red fox",), ("red fox",)]
    assert source.form == "class folders, 2 of them: a folder's name is the caption"
    (tmp_path / "red fox" / "2.txt").write_text("a fox")  # one caption file: then captions count, and names do not
    source = source_of(tmp_path)
    assert (source.form, source.skipped) == ("pictures with caption files", {"no caption": 2})
    assert [captions for _, captions in pairs(source)] == [("a fox",)]


def test_folders_that_are_neither(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture())
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,red\n")
    assert pairs(source_of(tmp_path)) == [(picture(), ("red",))]
    (tmp_path / "captions.csv").write_text("image,says,by\na.jpg,red,me\n")
    with pytest.raises(DataError, match=r"1 pictures and no caption.*captions\.csv: no column looks like"):
        open_source(tmp_path)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "b.jpg").write_bytes(picture())
    with pytest.raises(
        DataError, match=r"1 pictures in folders, whose names would be captions, and 1 outside them \(a\.jpg\)"
    ):
        open_source(tmp_path)


# --- tables


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for i in range(3):
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(picture(i))
    return tmp_path


@pytest.mark.parametrize("separator", [",", "\t"])
def test_tables_with_a_row_for_each_caption(photos: Path, separator: str) -> None:
    """As Flickr8k's: five rows name one picture. Quoted separators and lines are part of a caption."""
    path = photos / f"pairs.{'csv' if separator == ',' else 'tsv'}"
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows(
            [
                ("image", "split", "caption"),
                ("photos/0.jpg", "x", f"one{separator} two"),
                ("photos/1.jpg", "x", "three"),
                ("photos/0.jpg", "x", "four\nfive"),
                ("photos/2.jpg", "x", " "),
                ("", "x", "six"),
                (str(photos / "photos" / "2.jpg"), "x", "sëven"),
            ]
        )
    source = source_of(path)
    assert pairs(source) == [
        (picture(0), (f"one{separator} two", "four\nfive")),
        (picture(1), ("three",)),
        (picture(2), ("sëven",)),
    ]
    assert source.skipped == {"no caption": 1, "no picture": 1}
    assert source.form == "table with columns image (picture) and caption (caption)"


def test_json_lines_with_lists_and_damage(photos: Path) -> None:
    path = photos / "pairs.jsonl"
    rows = [
        {"id": 7, "file_name": "photos/0.jpg", "captions": ["one", " ", "two"]},
        {"file_name": "photos/1.jpg", "captions": "three"},
        {"file_name": "photos/2.jpg", "captions": [4]},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows) + '\n{"file_na\n[1]\n', encoding="utf-8")
    source = source_of(path)
    assert [captions for _, captions in pairs(source)] == [("one", "two"), ("three",)]
    assert source.skipped == {"damaged line (first in line 4)": 2, "damaged captions": 1}


def test_columns_are_named_or_guessed(photos: Path) -> None:
    path = photos / "odd.csv"
    path.write_text("where,says,caption_1,caption_2\nphotos/0,hello,a,b\n")
    with pytest.raises(DataError, match=r"no column looks like the picture's; its columns are where, says, caption_1"):
        open_source(path)
    assert pairs(source_of(path, image_column="where"))[0][1] == ("a", "b")
    assert pairs(source_of(path, image_column="where", caption_column="says"))[0][1] == ("hello",)
    assert pairs(source_of(path, image_column="where", caption_column="caption_2"))[0][1] == ("b",)
    with pytest.raises(DataError, match=r"has no column 'what'; its columns are where, says"):
        open_source(path, image_column="what")
    with pytest.raises(DataError, match=r"none of 1 pictures exists, the first at .*hello"):
        open_source(path, image_column="says", caption_column="says")


def test_addresses_in_a_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "web.tsv").write_text("image\tcaption\nhttps://example.org/a.jpg\tred\n")
    with pytest.raises(DataError, match=r"the pictures are addresses \(https://example.org/a.jpg\).*Collect them"):
        open_source(tmp_path / "web.tsv")


def test_tables_without_rows_or_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,caption\n")
    (tmp_path / "b.csv").write_text("image,caption\n")
    with pytest.raises(DataError, match="holds no rows"):
        open_source(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"names 2 files .* name tables one by one"):
        open_source(tmp_path / "*.csv")


# --- Parquet and datasets


def write_parquet(path: Path, columns: dict, rows_in_group: int = 4) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, row_group_size=rows_in_group)
    return path


def with_pictures(path: Path, count: int = 10, **more: list) -> Path:
    """As a Hugging Face dataset has them; row 3 has no picture, row 5 no caption."""
    images = [{"bytes": picture(i), "path": f"{i}.jpg"} if i != 3 else None for i in range(count)]
    captions = [[f"number {i}", f"no. {i}"] if i != 5 else [] for i in range(count)]
    return write_parquet(path, {"image": images, "caption": captions, **more})


def test_parquet_with_pictures_inside(tmp_path: Path) -> None:
    source = source_of(with_pictures(tmp_path / "a.parquet"))
    assert source.skipped == {"no picture": 1, "no caption": 1}
    assert pairs(source) == [(picture(i), (f"number {i}", f"no. {i}")) for i in range(10) if i not in (3, 5)]
    assert source.key(3) == "row 0 of group 1 of a.parquet"
    assert pickle.loads(pickle.dumps(source))[3] == source[3]  # as a worker gets it
    plain = write_parquet(tmp_path / "b.parquet", {"jpg": [picture(1)], "text": ["one"]})
    assert pairs(source_of(plain)) == [(picture(1), ("one",))]
    with_pictures(tmp_path / "b.parquet", 3)
    assert len(source_of(tmp_path)) == 8 + 3


def test_parquet_with_paths(photos: Path) -> None:
    path = write_parquet(photos / "a.parquet", {"path": ["photos/0.jpg", "photos/1.jpg"], "text": ["one", None]})
    source = source_of(path)
    assert pairs(source) == [(picture(0), ("one",))]
    assert source.skipped == {"no caption": 1}
    with pytest.raises(DataError, match=r"column text is int64; wanted a path, or a picture's bytes|is int64"):
        open_source(write_parquet(photos / "b.parquet", {"image": [1], "text": ["one"]}))


def test_large_parquet_is_a_stream_of_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_pictures(tmp_path / "a.parquet", 40)
    whole = pairs(source_of(path))
    monkeypatch.setattr(parquet, "UNPACK_BYTES", 1000)
    stream = open_source(path)
    assert isinstance(stream, Stream)
    assert (stream.samples, len(stream.shards)) == (40, 10)
    assert pairs(indexed(stream)) == whole
    assert indexed(stream).skipped == {"no picture": 1, "no caption": 1}


def test_damaged_parquet(tmp_path: Path) -> None:
    path = with_pictures(tmp_path / "a.parquet", 12)
    content = bytearray(path.read_bytes())
    import pyarrow.parquet as pq

    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content[column.data_page_offset : column.data_page_offset + 40] = bytes(40)
    path.write_bytes(content)
    source = source_of(path)
    assert source.skipped == {"damaged row group": 1, "no picture": 1}
    assert [source[i].captions[0] for i in range(len(source))] == [f"number {i}" for i in (0, 1, 2, 8, 9, 10, 11)]
    path.write_bytes(bytes(content[:-50]))
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet"):
        open_source(path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r'pip install "diptych\[data\]"'):
        open_source(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'pip install "diptych\[datasets\]"'):
        open_source("hf://owner/name")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.mark.usefixtures("offline")
def test_hugging_face_datasets(tmp_path: Path) -> None:
    """Data files in a folder, whole and streamed, give the same pairs; what save_to_disk left does, too."""
    folder = tmp_path / "set"
    folder.mkdir()
    rows = range(6)
    columns = {"image": [{"bytes": picture(i), "path": None} for i in rows], "caption": [f"n {i}" for i in rows]}
    for number in (0, 1):
        write_parquet(
            folder / f"train-{number}.parquet", {n: v[3 * number : 3 * number + 3] for n, v in columns.items()}
        )
    wanted = [(picture(i), (f"n {i}",)) for i in rows]
    whole = source_of(f"hf://{folder}:train")
    assert pairs(whole) == wanted
    streamed = open_source(f"hf-stream://{folder}")
    assert isinstance(streamed, Stream)
    assert len(streamed.shards) == 2
    assert pairs(indexed(streamed)) == wanted
    import datasets

    kept = datasets.load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train")
    kept.cast_column("image", datasets.Image()).save_to_disk(tmp_path / "kept")
    saved = source_of(tmp_path / "kept")
    assert pairs(saved) == wanted
    assert pickle.loads(pickle.dumps(saved))[2] == saved[2]
    with pytest.raises(DataError, match=r"has no column 'x'; its columns are image, caption"):
        open_source(f"hf://{folder}", image_column="x")
    with pytest.raises(DataError, match="Wanted hf://OWNER/NAME"):
        open_source(f"hf://{folder}:other")


# --- damaged shards


def test_a_torn_shard_gives_what_lies_before_the_tear(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", 0, 5)
    shard(tmp_path / "1.tar", 5, 2)
    whole = source_of(path)
    path.write_bytes(path.read_bytes()[: int(whole._spans[3, 1]) + 100])  # in the middle of the fourth picture
    source = source_of(tmp_path)
    assert list(all_captions(source)) == ["number 0", "number 1", "number 2", "number 5", "number 6"]
    assert source.skipped == {"damage in 0.tar": 1}
    (tmp_path / "2.tar").write_bytes(b"not a tar")
    assert source_of(tmp_path).skipped == {"damage in 0.tar": 1, "damage in 2.tar": 1}


def test_captions_in_text_where_the_json_holds_other_things(tmp_path: Path) -> None:
    """As img2dataset leaves them."""
    path = write_tar(tmp_path / "0.tar", {"a.jpg": picture(), "a.json": b'{"url": "x"}', "a.txt": b"from text"})
    assert source_of(path)[0].captions == ("from text",)


@settings(max_examples=40)
@given(st.integers(0, 120), st.integers(0, 120), st.integers(1, 4))
def test_braces_count_as_a_shell_does(first: int, last: int, width: int) -> None:
    names = expand_braces(f"s-{{{first:0{width}}..{last:0{width}}}}.{{tar,x}}")
    assert len(names) == 2 * (abs(last - first) + 1)
    padded = width > 1 and min(first, last) < 10 ** (width - 1)
    full = max(width, len(str(first)), len(str(last))) if padded else 0
    assert names[0] == f"s-{first:0{full}}.tar"
    assert names[-1] == f"s-{last:0{full}}.x"


def test_braces_name_local_shards(tmp_path: Path) -> None:
    for i in range(4):
        shard(tmp_path / f"s-{i:03}.tar", i, 1)
    assert list(all_captions(open_source(f"{tmp_path}/s-{{001..002}}.tar"))) == ["number 1", "number 2"]
    assert len(source_of(f"{tmp_path}/s-*.tar")) == 4


# --- HTTP


class Server(ThreadingHTTPServer):
    """Serves the files of `folder`. `cuts`: a file's name -> after how many bytes each of its transfers breaks off;
    `stalls`: how many transfers hang; `broken`: how many are answered with 503; `ranges`: whether parts are given."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked, self.ranges = folder, list[tuple[str, str | None]](), True
        self.cuts, self.stalls, self.broken = dict[str, int](), dict[str, int](), dict[str, int]()
        self.over = threading.Event()

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.strip("/").partition("?")[0]
        self.server.asked.append((name, self.headers.get("Range")))
        path = self.server.folder / name
        if not path.exists():
            return self.send_error(404)
        if self.server.broken.get(name, 0) > 0:
            self.server.broken[name] -= 1
            return self.send_error(503)
        content, start = path.read_bytes(), 0
        if self.server.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", '"one"')
        if self.server.stalls.get(name, 0) > 0:
            self.send_header("Stalls", "1")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if self.server.stalls.get(name, 0) > 0:
            self.server.stalls[name] -= 1
            self.wfile.write(body[:1000])
            self.wfile.flush()
            self.server.over.wait()
        else:
            self.wfile.write(body[: self.server.cuts.get(name, len(body))])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "PAUSE_S", 0.001)
    folder = tmp_path / "served"
    folder.mkdir()
    for i in range(4):
        shard(folder / f"{i:02}.tar", 10 * i, 10)
    with Server(folder) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


def http_loader(server: Server, pattern: str = "{00..03}.tar") -> Loader:
    return Loader([MixtureSource(open_source(server.address(pattern)), 40, NONE)], batch_size=10, size_px=8, threads=1)


def captions_of_two_passes(loader: Loader) -> set[str]:
    batches = loader.batches()
    return {caption for _ in range(8) for caption in next(batches).captions}


def test_shards_over_http(server: Server) -> None:
    loader = http_loader(server)
    assert captions_of_two_passes(loader) == {f"number {i}" for i in range(40)}
    assert not loader.bad
    stream = open_source(server.address("{00..03}.tar?token=x"))
    assert sorted(all_captions(stream)) == sorted(f"number {i}" for i in range(40))


def test_a_tokenizer_reads_no_more_of_a_stream_than_it_needs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "ENOUGH_CAPTIONS", 15)
    assert list(all_captions(open_source(server.address("{00..03}.tar")))) == [f"number {i}" for i in range(15)]
    assert {name for name, _ in server.asked} == {"00.tar", "01.tar"}


def test_a_broken_transfer_is_gone_on_with(server: Server) -> None:
    """More often than it is tried again, as long as each time something comes."""
    size = (server.folder / "00.tar").stat().st_size
    server.cuts["00.tar"] = size // 20 + 1
    stream = open_source(server.address("00.tar"))
    assert isinstance(stream, Stream)
    source = fetched(stream, stream.shards[0])
    assert len(source) == 10
    starts = [asked and int(asked.removeprefix("bytes=").rstrip("-")) for _, asked in server.asked]
    assert starts == [None, *range(size // 20 + 1, size, size // 20 + 1)]


def test_a_server_without_ranges_starts_over(server: Server) -> None:
    server.ranges = False
    server.broken["00.tar"] = 2
    server.stalls["00.tar"] = 1
    with pytest.MonkeyPatch.context() as patch:
        short_of_patience(patch)
        assert len(list(all_captions(open_source(server.address("00.tar"))))) == 10
    assert len(server.asked) == 4


def short_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a transfer that stalls whoever reads gives up 0.05 s after the first part came; how long all else takes is the
    machine's affair."""

    @contextlib.contextmanager
    def opened(*arguments: Any) -> Iterator[downloading.Transfer]:
        with downloading.opened(*arguments) as transfer:
            if transfer.headers.get("Stalls"):
                response: Any = transfer._response
                response.peek(1)
                response.fp.raw._sock.settimeout(0.05)
            yield transfer

    monkeypatch.setattr(downloading, "TIMEOUT_S", 3600.0)
    monkeypatch.setattr(remote, "opened", opened)


def test_a_stalled_transfer_is_gone_on_with(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    short_of_patience(monkeypatch)
    server.stalls["01.tar"] = 2
    assert len(list(all_captions(open_source(server.address("01.tar"))))) == 10
    assert [asked for _, asked in server.asked] == [None, "bytes=1000-", "bytes=2000-"]


def test_lost_shards_are_named_and_the_rest_goes_on(server: Server) -> None:
    (server.folder / "02.tar").unlink()
    loader = http_loader(server)
    assert captions_of_two_passes(loader) == {f"number {i}" for i in range(40) if not 20 <= i < 30}
    assert loader.reasons() == f"1 HTTP 404 ({server.address('02.tar')})"
    server.cuts["01.tar"] = 0
    with pytest.raises(DataError, match=r"2 of 4 shards cannot be fetched: 1 .*download failed|1 HTTP 404"):
        captions_of_two_passes(http_loader(server))


def test_addresses_that_are_no_shards(server: Server) -> None:
    with pytest.raises(DataError, match=r"only tar shards are read over http\(s\)"):
        open_source(server.address("data.csv"))
