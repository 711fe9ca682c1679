"""Lists as they are published: their columns are recognised, and what cannot be read is counted."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.collect.lists.tables import ListRow, list_files, read_list
from diptych.errors import DataError


def read(path: Path, skipped: dict[str, int] | None = None, **columns: str) -> list[ListRow]:
    return list(read_list(path, {} if skipped is None else skipped, **columns))


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_laion_in_parquet(tmp_path: Path) -> None:
    """LAION-400M's columns, with a licence and a number that a later filter wants."""
    table = pa.table(
        {
            "SAMPLE_ID": pa.array([7, 8], pa.int64()), "URL": ["http://a.org/1", "http://a.org/2"],
            "TEXT": ["a dog", "a cat"], "HEIGHT": pa.array([3, 4], pa.int32()), "WIDTH": pa.array([5, 6], pa.int32()),
            "LICENSE": ["cc0", None], "NSFW": ["UNLIKELY", "UNSURE"], "similarity": [0.31, 0.29],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "part.parquet")
    rows = read(tmp_path / "part.parquet")
    assert [(row.url, row.captions, row.licence) for row in rows] == [
        ("http://a.org/1", ("a dog",), "cc0"), ("http://a.org/2", ("a cat",), ""),
    ]  # fmt: skip
    assert rows[0].columns == {
        "SAMPLE_ID": "7", "HEIGHT": "3", "WIDTH": "5", "NSFW": "UNLIKELY", "similarity": "0.31"
    }  # fmt: skip


def test_datacomp_in_parquet(tmp_path: Path) -> None:
    """DataComp's columns; boxes of faces are structures, which are not read."""
    table = pa.table(
        {
            "uid": ["00a"], "url": ["https://a.org/1.jpg"], "text": ["two boats"], "original_width": [640],
            "original_height": [480], "clip_b32_similarity_score": [0.2], "face_bboxes": [[[0.1, 0.2, 0.3, 0.4]]],
            "sha256": ["ff"],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "part.parquet")
    (row,) = read(tmp_path / "part.parquet")
    assert row[:3] == ("https://a.org/1.jpg", ("two boats",), "")
    assert "face_bboxes" not in row.columns
    assert row.columns["sha256"] == "ff"


@pytest.mark.parametrize("turned", [False, True])
def test_conceptual_captions_without_a_header(tmp_path: Path, turned: bool) -> None:
    """CC12M has address and caption, CC3M caption and address; addresses need not end as pictures do."""
    pairs = [("https://a.org/p?id=1", "a dog, a cat, and a very long walk"), ("https://b.org/2.jpg", "red car")]
    lines = ["\t".join(pair[::-1] if turned else pair) for pair in pairs]
    rows = read(written(tmp_path, "cc.tsv", "\n".join(lines) + "\n"))
    assert [(row.url, *row.captions) for row in rows] == pairs


@pytest.mark.parametrize(
    ("header", "cells", "url", "caption"),
    [
        ("url,caption", "http://a.org/1,a dog", "http://a.org/1", "a dog"),
        ("id,url,text,width", "9,http://a.org/1,a dog,3", "http://a.org/1", "a dog"),  # COYO
        ("url,image_url,caption", "http://a.org/page,http://a.org/1,a dog", "http://a.org/1", "a dog"),  # a page's own
        ("language,page_url,image_url,caption_reference_description", "en,http://p.org/,http://a.org/1,a dog",
         "http://a.org/1", "a dog"),  # WIT
        ("source,what", "http://a.org/1,a dog on grass", "http://a.org/1", "a dog on grass"),  # by the cells
    ],
)  # fmt: skip
def test_columns(tmp_path: Path, header: str, cells: str, url: str, caption: str) -> None:
    (row,) = read(written(tmp_path, "list.csv", f"{header}\n{cells}\n"))
    assert (row.url, *row.captions) == (url, caption)


def test_columns_that_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", "url,other,caption,note\nhttp://a.org/1,http://b.org/2,a dog,a note\n")
    (row,) = read(path, url_column="other", captions="note")
    assert row[:2] == ("http://b.org/2", ("a note",))
    with pytest.raises(DataError, match="no column 'odd'; its columns are url, other, caption, note"):
        read(path, url_column="odd")


def test_json_lines_and_lists_of_captions(tmp_path: Path) -> None:
    rows = [
        {"url": "http://a.org/1", "caption": ["a dog", "a brown dog", "a dog"]},
        {"url": "http://a.org/2", "caption": "a cat", "license": "by-sa"},
        {"url": None, "caption": "lost"},
        {"url": "http://a.org/3", "caption": " "},
    ]
    skipped: dict[str, int] = {}
    path = written(tmp_path, "list.jsonl", "\n".join([*map(json.dumps, rows), "{broken"]))
    found = read(path, skipped)
    assert [(row.url, row.captions, row.licence) for row in found] == [
        ("http://a.org/1", ("a dog", "a brown dog"), ""), ("http://a.org/2", ("a cat",), "by-sa"),
    ]  # fmt: skip
    assert skipped == {"no address": 1, "no caption": 1, "damaged line (line 5)": 1}


def test_a_list_without_addresses_says_which_columns_it_has(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no column looks like the address's; its columns are name, caption.*url_column"
    ):
        read(written(tmp_path, "list.csv", "name,caption\na.jpg,a dog\n"))


def test_a_folder_of_parts(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", "notes.md"):
        (tmp_path / name).touch()
    assert [path.name for path in list_files(tmp_path)] == ["a.parquet", "b.parquet"]
    with pytest.raises(DataError, match=r"ends in \.md; wanted one of \.csv"):
        list_files(tmp_path / "notes.md")


@pytest.mark.parametrize(("text", "told"), [("", "has no rows;"), ("}\n", "has no rows (1 ")])
def test_a_table_without_rows_is_said_to_be_one(tmp_path: Path, text: str, told: str) -> None:
    """Not that its columns have odd names, for there are none."""
    with pytest.raises(DataError, match=re.escape(told)):
        read(written(tmp_path, "list.jsonl", text))
