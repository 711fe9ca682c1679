"""Any bytes as a table, a caption file, a shard: what is wrong is counted, and no other error than ours ends a run."""

import gzip
import inspect
import io
import json
import lzma
import os
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diptych.data import samples, spooling
from diptych.data.samples import Source, Stream
from diptych.data.sources.opening import all_captions, open_source
from diptych.data.sources.shards import Headers, ShardSource, members
from diptych.data.tables import file_lookup, json_captions, tsv
from diptych.errors import DataError, FileError
from tests.conftest import write_tar

DEEP = ["[" * 100_000, '{"caption":' * 100_000, "[" * 500 + "]" * 500]


def source_of(spec: object) -> Source:
    source = open_source(str(spec))
    assert not isinstance(source, Stream)
    return source


def read_all(spec: object) -> int:
    """How many samples can be read; all else must fail by an error of ours, or of the system."""
    try:
        source = source_of(spec)
    except (DataError, FileError):
        return 0
    good = 0
    for index in range(len(source)):
        try:
            sample = source[index]
        except (DataError, OSError):
            continue
        assert all(isinstance(caption, str) and caption.encode() for caption in sample.captions)
        good += 1
    assert all(isinstance(reason, str) and number > 0 for reason, number in source.skipped.items())
    return good


# --- JSON that is nested too deep, in each place where JSON is read


@pytest.mark.parametrize("deep", DEEP, ids=["lists", "objects", "closed"])
def test_deep_json_costs_its_sample_alone(tmp_path: Path, deep: str) -> None:
    folder, rows = tmp_path / "beside", '{"image": "a.jpg", "caption": "words"}'
    folder.mkdir()
    for name, content in (("a", '{"caption": "words"}'), ("b", deep)):
        (folder / f"{name}.jpg").write_bytes(b"x")
        (folder / f"{name}.json").write_text(content)
    tar = {"a.jpg": b"x", "a.json": b'{"caption": "words"}', "b.jpg": b"x", "b.json": deep.encode()}
    write_tar(tmp_path / "0.tar", tar)
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "t.jsonl").write_text(f"{rows}\n{deep}\n")
    (tmp_path / "t.csv").write_text(f'image,caption\na.jpg,words\na.jpg,"[""{deep}""]"\n')
    for spec in (folder, tmp_path / "0.tar", tmp_path / "t.jsonl", tmp_path / "t.csv"):
        source = source_of(spec)
        assert source.captions(0)[0] == "words", spec
        if len(source) > 1:
            with pytest.raises(DataError, match="nested deeper") as caught:
                source.captions(1)
            assert caught.value.reason == "damaged captions"
            assert len(str(caught.value)) < 1000
    (tmp_path / "t.json").write_text(f'{{"a.jpg": {deep}}}')
    with pytest.raises(DataError, match=r"t\.json cannot be read as JSON \(it is nested deeper than 64 levels\)"):
        open_source(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        ('{"caption": NaN}', None), ('{"caption": 1e999}', None), ('{"caption": ' + "9" * 5000 + "}", None),
        ('{"caption": ["a", ["b"]]}', None), ('{"caption": "a \\ud83d"}', ("a \ufffd",)),
        ('{"caption": "\\ud83d\\ude00"}', ("\U0001f600",)), ('{"caption": "a", "caption": "b"}', ("b",)),
        ('{"caption": "' + "x" * 2_000_000 + '"}', None), ("[]", None), ("1", None), ("", None), ("\0", None),
    ],
)  # fmt: skip
def test_odd_values_of_json(tmp_path: Path, content: str, captions: tuple[str, ...] | None) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.json").write_text(content)
    (tmp_path / "b.jpg").write_bytes(b"x")
    (tmp_path / "b.json").write_text('{"caption": "words"}')
    source = source_of(tmp_path)
    if captions is None:
        with pytest.raises(DataError):
            source.captions(0)
    else:
        assert source.captions(0) == captions
    assert source.captions(1) == ("words",)


def test_ids_of_coco_that_can_be_no_keys(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    images = [{"id": [1], "file_name": "b.jpg"}, {"id": 2, "file_name": "a.jpg"}, {"id": None, "file_name": "b.jpg"}]
    notes = [{"image_id": number, "caption": "words"} for number in ([1], {}, None, 2, True)]
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": [*notes, 5]}))
    source = source_of(tmp_path / "captions.json")
    assert [source.key(at) for at in range(len(source))] == ["a.jpg"]
    assert source.skipped == {"no picture": 4}


def test_ids_of_coco_are_looked_up_by_what_no_file_can_choose() -> None:
    """Of these whole numbers all are the same to a dict, which would compare each with all others."""
    alike = [each * sys.hash_info.modulus for each in range(1, 101)]
    assert len({hash(each) for each in alike}) == 1
    assert len({hash(json_captions._key(each)) for each in alike}) > 90


def test_lines_that_are_all_damaged_are_counted_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    for name, head, bad in (
        ("t.jsonl", '{"image": "a.jpg", "caption": "w"}', "1"),
        ("t.csv", "image,caption\na.jpg,w", "b,c,d,"),
    ):
        (tmp_path / name).write_text("\n".join([head, *[bad] * 40_000]))
        tracemalloc.start()
        try:
            assert list(source_of(tmp_path / name).skipped.values())[-1:] in ([40_000], [])
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()


def test_folders_as_deep_as_a_file_system_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath("set", *["d"] * 150)
    deep.mkdir(parents=True)
    for name, content in (("a.jpg", "x"), ("a.txt", "words")):
        (deep / name).write_text(content)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert list(all_captions(source_of(tmp_path / "set"))) == ["words"]
        with pytest.raises(DataError, match="nested too deep"):
            open_source(f"{tmp_path}/set/**/*.tar")
    finally:
        sys.setrecursionlimit(before)


def test_a_name_that_could_mean_many_files_is_not_looked_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_lookup, "_MAX_MISSES", 500)
    looked: list[str] = []
    is_file = os.path.isfile
    monkeypatch.setattr(file_lookup.os.path, "isfile", lambda path: looked.append(path) or is_file(path))
    for number in range(20):
        (tmp_path / f"f{number}").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"x")
    name = "/p" * 1000
    for first, reads in (("a.jpg,words\n", 1), ("", 0)):
        looked.clear()
        (tmp_path / "t.csv").write_text(f"image,caption\n{first}" + "".join(f"{name}/{at},w\n" for at in range(99)))
        assert read_all(tmp_path / "t.csv") == reads
        assert len(looked) < 3000


@pytest.mark.parametrize("pattern", ["{0..99999999999999}.tar", "{0..999}{0..999}{0..999}.tar", "{9999999..1}.tar"])
def test_braces_that_name_more_files_than_there_are(pattern: str) -> None:
    for spec in (pattern, f"http://127.0.0.1/{pattern}"):
        with pytest.raises(DataError, match="names more than 1,000,000 files"):
            open_source(spec)


# --- any bytes


CELLS = st.text(st.sampled_from('a,;\t"\n\r|[]{}:\\\0é\ufeff../~'), max_size=12)
TEXTS = st.lists(CELLS, max_size=12).map(lambda cells: "image,caption\na.jpg,words\n" + ",".join(cells))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a.jpg", "../x", "", "words", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["image", "caption", "images", "annotations", "id", "image_id", "file_name", "sentences", "a.jpg"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(["t.csv", "t.tsv", "t.txt", "t.jsonl", "t.json", "t.parquet", "metadata.csv"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile") / "set"
    place.mkdir()
    (place / "a.jpg").write_bytes(b"picture")
    return place


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES, st.binary(max_size=300) | TEXTS.map(str.encode) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_a_table(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    try:
        read_all(path)
        read_all(folder)
    finally:
        path.unlink()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["a.txt", "a.json", "a.caption", "a.jpg.txt"]),
    st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()),
)
def test_any_bytes_as_a_caption_file(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    try:
        read_all(folder)
    finally:
        path.unlink()


def sound_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (
            ("a.jpg", b"x"),
            ("a.json", b'{"caption": "words"}'),
            ("é" * 60 + ".jpg", b"y"),
            ("b.txt", b"z"),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


TAR = sound_tar()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 5119), st.integers(0, 255)), max_size=8), st.integers(0, len(TAR)), st.booleans()
)
def test_any_changes_of_a_tar(folder: Path, changes: list[tuple[int, int]], end: int, whole: bool) -> None:
    content = bytearray(TAR)
    for at, byte in changes:
        content[at] = byte
    path = folder.parent / "0.tar"
    path.write_bytes(content if whole else content[:end])
    read_all(path)


# --- tars


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(
        name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0" + b" " * 8 + kind
    )
    block += bytes(100) + b"ustar\00000" + bytes(247)
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block[:512])


def pax(**said: str) -> bytes:
    lines = b""
    for key, value in said.items():
        line = f" {key.replace('_', '.')}={value}\n".encode()
        length = len(line) + len(str(len(line) + 3))
        lines += str(length).encode() + line
    return header(b"pax", b"%011o\0" % len(lines), b"x") + lines.ljust(-(-len(lines) // 512) * 512, b"\0")


SOUND = header(b"a.jpg", b"%011o\0" % 1) + b"x".ljust(512, b"\0")
SOUND += header(b"a.txt", b"%011o\0" % 5) + b"words".ljust(512, b"\0")


@pytest.mark.parametrize(
    "odd",
    [
        pax(size="x") + header(b"b.jpg", b"0" * 12), header(b"pax", b"%011o\0" % (1 << 30), b"x"),
        header(b"pax", b"%011o\0" % (1 << 30), b"L"), header(b"b.jpg", b"%011o\0" % 1, b"S"),
        header(b"b.jpg", b"zzzzzzzzzzz\0"), header(b"b.jpg", b"%011o\0" % (1 << 32)),
    ],
    ids=["letters", "long-pax", "long-name", "sparse", "size", "large"],
)  # fmt: skip
def test_headers_that_no_tar_writes(tmp_path: Path, odd: bytes) -> None:
    """What lies before is used, the rest is counted; no more is read than a header has."""
    (tmp_path / "0.tar").write_bytes(SOUND + odd + bytes(10240))
    source = ShardSource([tmp_path / "0.tar"])
    assert source[0].captions == ("words",)
    assert len(source) == 1
    assert set(source.skipped) <= {"damage in 0.tar", "no picture", "no caption"}


@pytest.mark.parametrize("odd", [(-512, 4096), (0, 1024), (0, 0)], ids=["negative", "nowhere", "back"])
def test_a_reader_that_goes_back_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: tuple[int, int]
) -> None:
    """Whatever made it: it would never come to an end."""

    class Going:
        def __init__(self) -> None:
            self.members, self.offset = [], 0

        def __enter__(self) -> "Going":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __iter__(self) -> Iterator[tarfile.TarInfo]:
            for size, self.offset in ((1, 1024), *[odd] * 5):
                member = tarfile.TarInfo("a.jpg")
                member.size = size
                yield member

    (tmp_path / "0.tar").write_bytes(SOUND + bytes(10240))
    monkeypatch.setattr("diptych.data.sources.shards.tarfile.open", lambda **_: Going())
    handed = []
    with pytest.raises(tarfile.ReadError, match="a header is invalid"):
        handed += members(tmp_path / "0.tar")
    assert len(handed) <= 1


@pytest.mark.parametrize("error", [RecursionError, OverflowError, KeyError, MemoryError, TypeError, UnicodeError])
def test_whatever_a_reader_of_tars_raises_costs_that_tar_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    for name in ("0.tar", "1.tar"):
        write_tar(tmp_path / name, {f"{name}.jpg": b"x", f"{name}.txt": name.encode()})
    opened = tarfile.open

    def odd(*arguments: Any, **options: Any) -> tarfile.TarFile:
        if os.path.samestat(os.fstat(options["fileobj"].tell.__self__.fileno()), (tmp_path / "0.tar").stat()):
            raise error("odd")
        return opened(*arguments, **options)

    monkeypatch.setattr("diptych.data.sources.shards.tarfile.open", odd)
    source = ShardSource([tmp_path / "0.tar", tmp_path / "1.tar"])
    assert list(all_captions(source)) == ["1.tar"]
    assert source.skipped == {"damage in 0.tar": 1}


def test_no_more_of_a_tar_is_read_at_once_than_a_header_has(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(SOUND + bytes(1 << 20))
    with (tmp_path / "0.tar").open("rb") as file:
        headers = Headers(file)
        assert headers.read(512) == SOUND[:512]
        for size in (-1, 1 << 17):
            with pytest.raises(tarfile.ReadError, match="a header is invalid"):
                headers.read(size)


def test_members_that_are_no_files(tmp_path: Path) -> None:
    """Links, devices and absurd names are no samples, and nothing is written anywhere."""
    path = tmp_path / "shards" / "0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name, kind in (
            ("b", tarfile.SYMTYPE),
            ("c", tarfile.LNKTYPE),
            ("d", tarfile.CHRTYPE),
            ("e", tarfile.FIFOTYPE),
        ):
            for ending in ("jpg", "txt"):
                entry = tarfile.TarInfo(f"{name}.{ending}")
                entry.type, entry.linkname = kind, "/etc/passwd"
                tar.addfile(entry)
        for name in ("../../up", "/abs", "x" * 5000, "a", "n\nl", "\udcff"):
            for ending in ("jpg", "txt"):
                entry = tarfile.TarInfo(f"{name}.{ending}")
                entry.size = 5
                tar.addfile(entry, io.BytesIO(b"words"))
    source = source_of(path)
    assert list(all_captions(source)) == ["words"] * 5
    assert source.skipped == {"a name of over 4,096 characters": 2}
    assert [each.name for each in tmp_path.rglob("*")] == ["shards", "0.tar"]


def test_a_member_that_is_too_large_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.data.sources.shards.MAX_SIDECAR_BYTES", 10)
    files = {"a.jpg": b"x", "a.txt": b"w" * 11, "b.jpg": b"x", "b.txt": b"words"}
    source = source_of(write_tar(tmp_path / "0.tar", files))
    with pytest.raises(DataError, match="a has 11 bytes; at most 10 are read") as caught:
        source.captions(0)
    assert caught.value.reason == "too large"
    assert source.captions(1) == ("words",)


# --- what packs to nothing


def zstandard(data: bytes) -> bytes:
    return pytest.importorskip("pyarrow").compress(data, codec="zstd", asbytes=True)


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstandard)])
def test_an_archive_that_unpacks_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    """Alone it says so, beside others it costs itself alone; and nothing of it is left."""
    monkeypatch.setattr(spooling, "_MIN_ROOM", 100_000)
    monkeypatch.setattr(spooling.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "set").mkdir()
    bomb = tmp_path / "set" / f"0.tar{ending}"
    bomb.write_bytes(pack(bytes(20_000_000)))
    with pytest.raises(DataError, match=rf"0\.tar{ending} unpacks to more than [\d,]+ bytes; it is not read"):
        open_source(bomb)
    assert [each.name for each in tmp_path.iterdir()] == ["set"]
    write_tar(tmp_path / "set" / "1.tar", {"a.jpg": b"x", "a.txt": b"words"})
    source = source_of(tmp_path / "set")
    assert list(all_captions(source)) == ["words"]
    assert source.skipped == {f"damage in 0.tar{ending}": 1}


def test_xz_has_a_limit_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file asks for could be 4 GB."""
    monkeypatch.setattr("diptych.data.compressed._XZ_MEMORY", 1 << 16)
    (tmp_path / "0.tar.xz").write_bytes(lzma.compress(bytes(100)))
    with pytest.raises(DataError, match="Memory usage limit"):
        open_source(tmp_path / "0.tar.xz")


def test_two_streams_of_xz_with_zeros_between_are_one(tmp_path: Path) -> None:
    """As `lzma.open` reads them."""
    whole = write_tar(tmp_path / "0.tar", {"a.jpg": b"x", "a.txt": b"words"}).read_bytes()
    packed = lzma.compress(whole[:700]) + bytes(8) + lzma.compress(whole[700:]) + bytes(4)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "0.tar.xz").write_bytes(packed)
    assert list(all_captions(source_of(tmp_path / "set"))) == ["words"]


def test_files_of_temporary_folders_are_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling.tempfile, "tempdir", str(tmp_path))
    with spooling.unpacking() as place:
        with spooling.SpoolFile(place / "a", 10, "a test") as file:
            file.write(b"0123456789")
            with pytest.raises(DataError, match="a test unpacks to more than 10 bytes"):
                file.write(b"x")
        assert (place.stat().st_mode & 0o777, (place / "a").stat().st_mode & 0o777) == (0o700, 0o600)
        (place / "link").symlink_to(tmp_path / "elsewhere")
        for name in ("a", "link"):  # neither what is there, nor what a link leads to
            with pytest.raises(FileExistsError):
                spooling.SpoolFile(place / name, 10, "a test")
        assert not (tmp_path / "elsewhere").exists()


# --- texts without end


def test_lines_and_cells_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.text.encoding.MAX_LINE", 1000)
    (tmp_path / "a.jpg").write_bytes(b"x")
    long = "x" * 3000
    tables = {
        "t.csv": f'image,caption\na.jpg,one\na.jpg,"{long}"\na.jpg,two\n',
        "t.tsv": f"image\tcaption\na.jpg\tone\na.jpg\t{long}\na.jpg\ttwo\n",
        "t.jsonl": "\n".join(json.dumps({"image": "a.jpg", "caption": words}) for words in ("one", long, "two")),
    }
    for name, content in tables.items():
        (tmp_path / name).write_text(content)
        source = source_of(tmp_path / name)
        assert source.captions(0) == ("one", "two")
        [reason] = source.skipped
        assert reason.startswith("a line of over 1,000 characters (")
    (tmp_path / "u.csv").write_text(long)
    with pytest.raises(DataError, match=r"u\.csv has no line under"):
        open_source(tmp_path / "u.csv")


def test_more_columns_than_any_table_has(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("," * 20_000 + "\na.jpg,words\n")
    (tmp_path / "t.jsonl").write_text(json.dumps({f"c{at}": "x" for at in range(20_000)}))
    for name in ("t.csv", "t.jsonl"):
        with pytest.raises(DataError, match=r"has 20,00[01] columns; wanted at most 10,000") as caught:
            open_source(tmp_path / name)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("name", "line"), [("t.csv", 'a","'), ("t.tsv", '"a')])
def test_quotes_that_are_all_open_are_not_looked_through_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: str
) -> None:
    """Each line alone opens a quote, and so does each after another: a hundred would be looked at for each."""
    monkeypatch.setattr(tsv, "_MAX_WASTED", 10_000)
    looked = []
    peek = tsv.LookaheadLines.peek
    monkeypatch.setattr(tsv.LookaheadLines, "peek", lambda self, index: looked.append(index) or peek(self, index))
    (tmp_path / "a.jpg").write_bytes(b"x")
    separator = "\t" if name.endswith("tsv") else ","
    (tmp_path / name).write_text(f"image{separator}caption\na.jpg{separator}words\n" + f"{line}\n" * 2000)
    assert source_of(tmp_path / name).captions(0) == ("words",)
    assert len(looked) < 500


@pytest.mark.parametrize(
    ("name", "content"),
    [("b.txt", "w\n" * 25_000), ("b.txt", "w\r" * 12_000), ("b.json", json.dumps({"captions": ["w"] * 12_000}))],
)
def test_a_picture_with_more_captions_than_anybody_writes(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "a.txt").write_text("w\n\n" * 10_000)
    (tmp_path / name).write_text(content)
    for picture in ("a.jpg", "b.jpg"):
        (tmp_path / picture).write_bytes(b"x")
    source = source_of(tmp_path)
    assert len(source.captions(0)) == 10_000
    with pytest.raises(DataError, match="captions; wanted at most 10,000") as caught:
        source.captions(1)
    assert caught.value.reason == "damaged captions"


def test_a_caption_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.data.sources.sidecars.MAX_SIDECAR_BYTES", 10)
    for name, words in (("a", "words"), ("b", "w" * 11)):
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
        (tmp_path / f"{name}.txt").write_text(words)
    source = source_of(tmp_path)
    assert source.captions(0) == ("words",)
    with pytest.raises(FileError, match=r"b\.txt has 11 bytes; at most 10 are read"):
        source.captions(1)
    with pytest.raises(DataError, match="have 16,777,217 bytes"):
        samples.captions_of(b"x" * (samples.MAX_SIDECAR_BYTES + 1), False, "a")
