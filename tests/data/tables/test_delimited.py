"""Tables in plain text as programs and people write them: separators, quotes, encodings, columns."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diptych.data.samples import Source, layout_of
from diptych.data.tables.columns import choose_columns
from diptych.data.tables.delimited import Dialect, strict_rows
from diptych.data.tables.table_source import open_table
from diptych.errors import DataError
from diptych.text.encoding import decoded

NAMES = [f"{number}.png" for number in range(8)]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in NAMES:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def captions(source: Source) -> dict[str, tuple[str, ...]]:
    return {source.key(index): source.captions(index) for index in range(len(source))}


def numbered(*but: int) -> dict[str, tuple[str, ...]]:
    return {name: (f"picture {at}",) for at, name in enumerate(NAMES) if at not in but}


# --- quotes


def test_an_unclosed_quote_costs_its_own_line_and_is_named(pictures: Path) -> None:
    lines = ["image,caption", *(f"{name},picture {at}" for at, name in enumerate(NAMES))]
    lines[4] = f'{NAMES[3]},"picture 3'
    (pictures / "t.csv").write_text("\n".join(lines) + "\n")
    source = open_table(pictures / "t.csv")
    assert captions(source) == numbered(3)
    assert source.skipped == {"a quote that is not closed (line 5)": 1}
    lines[7] = f'{NAMES[6]},"picture 6'
    (pictures / "t.csv").write_text("\r\n".join(lines))
    source = open_table(pictures / "t.csv")
    assert captions(source) == numbered(3, 6)
    assert source.skipped == {"a quote that is not closed (first in line 5)": 2}


def test_a_quote_that_another_row_closes_swallows_nothing(pictures: Path) -> None:
    """The quote of line 4 ends with that of line 7: a sound row, were not each line between one, too."""
    lines = ["image,caption", *(f"{name},picture {at}" for at, name in enumerate(NAMES))]
    lines[3], lines[6] = f'{NAMES[2]},"picture 2', f'{NAMES[5]},picture 5"'
    (pictures / "t.csv").write_text("\n".join(lines))
    source = open_table(pictures / "t.csv")
    assert captions(source) == numbered(2, 5) | {NAMES[5]: ('picture 5"',)}
    assert source.skipped == {"a quote that is not closed (line 4)": 1}


def test_quoted_cells_go_on_over_lines_and_separators(pictures: Path) -> None:
    (pictures / "t.csv").write_text('caption,image\n"one, and\n\ntwo ""so""",0.png\nplain 5" disk,1.png\n"",2.png\n')
    source = open_table(pictures / "t.csv")
    assert captions(source) == {"0.png": ('one, and\n\ntwo "so"',), "1.png": ('plain 5" disk',)}
    assert source.skipped == {"no caption": 1}


def test_spaces_behind_commas(pictures: Path) -> None:
    (pictures / "t.csv").write_text('image, caption\n0.png, "one, two"\n1.png, three\n')
    assert captions(open_table(pictures / "t.csv")) == {"0.png": ("one, two",), "1.png": ("three",)}


def test_a_cell_too_many_is_named(pictures: Path) -> None:
    (pictures / "t.csv").write_text("image,caption,split\n0.png,one,train\n1.png,two, and more,train\n")
    source = open_table(pictures / "t.csv")
    assert source.skipped == {"more cells than columns (line 3)": 1}
    (pictures / "t.tsv").write_text("image\tcaption\n0.png\tone\n1.png\ttwo\tthree\n")
    assert open_table(pictures / "t.tsv").skipped == {"more cells than columns (row 2)": 1}


CELLS = st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)] * 2)


@given(st.lists(CELLS, max_size=6), st.sampled_from(",;|"))
def test_what_a_csv_writer_quotes_comes_back(rows: list[tuple[str, str]], separator: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(rows)
    bad: list[int] = []
    dialect = Dialect(delimiter=separator, skipinitialspace=False)
    lines = io.StringIO(file.getvalue(), newline="")
    found = [tuple(cells) for _, cells in strict_rows(lines, dialect, 1, lambda reason, line: bad.append(line))]
    assert (found, bad) == (rows, [])


@given(st.lists(st.text('ab",;\n', max_size=12), max_size=8))
def test_any_lines_are_read_or_noted(lines: list[str]) -> None:
    """Whatever quotes stand in them, each line is in a row, blank, or noted, and the numbers go up."""
    text = io.StringIO("\n".join(lines), newline="")
    bad: list[int] = []
    dialect = Dialect(delimiter=",", skipinitialspace=False)
    numbers = [number for number, _ in strict_rows(text, dialect, 1, lambda reason, line: bad.append(line))]
    assert numbers == sorted(set(numbers))
    assert not set(numbers) & set(bad)
    assert all(1 <= number <= "\n".join(lines).count("\n") + 1 for number in numbers + bad)


# --- separators


@pytest.mark.parametrize(("separator", "words"), [("\t", "tabs"), (";", "semicolons"), ("|", "bars")])
def test_other_separators_in_a_csv(pictures: Path, separator: str, words: str) -> None:
    rows = [["image", "caption"], ["0.png", "one, two"], ["1.png", 'say "so"']]
    with open(pictures / "t.csv", "w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    source = open_table(pictures / "t.csv")
    assert captions(source) == {"0.png": ("one, two",), "1.png": ('say "so"',)}
    assert (layout_of(source).separator, source.form.endswith(f", separated by {words}")) == (words, True)
    source = open_table(pictures / "t.csv", image_column="image", caption_column="caption")
    assert len(source) == 2


def test_commas_in_a_tsv(pictures: Path) -> None:
    (pictures / "t.tsv").write_text("image,caption\n0.png,one\n")
    assert layout_of(open_table(pictures / "t.tsv")).separator == "commas"


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_without_a_header(pictures: Path, separator: str) -> None:
    (pictures / "t.csv").write_text(f"0.png{separator}one\n1.png{separator}two\n")
    source = open_table(pictures / "t.csv")
    assert captions(source) == {"0.png": ("one",), "1.png": ("two",)}
    assert layout_of(source).columns == ("1", ["2"])


def test_captions_listed_in_a_cell(pictures: Path) -> None:
    """As pandas writes them."""
    rows = [("0.png", "['one', \"it's two\"]"), ("1.png", '["three"]'), ("2.png", "[no list]"), ("3.png", "['a' 'b'")]
    with open(pictures / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "captions"), *rows])
    assert list(captions(open_table(pictures / "t.csv")).values()) == [
        ("one", "it's two"), ("three",), ("[no list]",), ("['a' 'b'",),
    ]  # fmt: skip


# --- encodings


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"),
        ("latin-1", "Windows-1252"), ("windows-1252", "Windows-1252"),
    ],
)  # fmt: skip
def test_encodings(pictures: Path, encoding: str, said: str) -> None:
    words = "un café à Noël" + ("" if encoding == "latin-1" else " – „so“")
    for name, separator in (("t.csv", ","), ("t.tsv", "\t")):
        (pictures / name).write_bytes(f"image{separator}caption\r\n0.png{separator}{words}\r\n".encode(encoding))
        source = open_table(pictures / name)
        assert captions(source) == {"0.png": (words,)}
        assert layout_of(source).encoding == said
    (pictures / "t.jsonl").write_bytes(f'{{"image": "0.png", "caption": "{words}"}}\n'.encode(encoding))
    assert captions(open_table(pictures / "t.jsonl")) == {"0.png": (words,)}
    assert decoded(words.encode(encoding)) == words


def test_one_line_of_another_encoding_among_many(pictures: Path) -> None:
    (pictures / "t.csv").write_bytes("image,caption\n0.png,café\n".encode() + "1.png,café\n".encode("latin-1"))
    assert set(captions(open_table(pictures / "t.csv")).values()) == {("café",)}


@given(st.binary(max_size=200))
def test_any_bytes_are_some_text(data: bytes) -> None:
    assert isinstance(decoded(data), str)


# --- columns


@pytest.mark.parametrize(
    ("names", "image", "captions"),
    [
        (["url", "key", "image", "title", "caption"], "image", ["caption"]),
        (["images", "texts"], "images", ["texts"]),
        (["file_name", "caption_lang", "text"], "file_name", ["text"]),
        (["filepath", "txt"], "filepath", ["txt"]),
        (["Image Path", "Short Description"], "Image Path", ["Short Description"]),
        (["jpg", "blip2_caption", "alt_text"], "jpg", ["blip2_caption"]),
        (["URL", "TEXT"], "URL", ["TEXT"]),
        (["image", "caption_1", "caption_0", "caption_id"], "image", ["caption_1", "caption_0"]),
        (["img_name", "product_title", "label"], "img_name", ["product_title"]),
        (["Id", "label"], "Id", ["label"]),
        (["id", "gender", "productDisplayName"], "id", ["productDisplayName"]),
        (["image_id", "caption_str", "image_name", "class_name"], "image_name", ["caption_str"]),
        (["id_code", "diagnosis"], "id_code", ["diagnosis"]),
    ],
)
def test_usual_names(names: list[str], image: str, captions: list[str]) -> None:
    assert choose_columns(names, None, None, "") == (image, captions)


def test_columns_with_no_usual_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looks like the caption's; its columns are image, m, n\. Set caption_column="):
        choose_columns(["image", "m", "n"], None, None, "x")


def test_commas_in_a_last_column_of_captions_without_quotes(tmp_path: Path) -> None:
    """As many a captions.txt is written by hand; in front of other columns nothing says where a caption ends."""
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "captions.txt").write_text("image,caption\na.jpg,A dog , running over grass .\nb.jpg,A cat .\n")
    source = open_table(tmp_path / "captions.txt")
    assert [source[at].captions for at in range(len(source))] == [("A dog , running over grass .",), ("A cat .",)]
    assert not source.skipped
