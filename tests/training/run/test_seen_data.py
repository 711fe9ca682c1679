"""A run notes what it sees, each time it starts."""

from pathlib import Path

import pytest

from diptych.data.sources.provenance import mark_of
from diptych.training.run.seen_data import note_data, seen_data


def test_what_a_resumed_run_sees_is_added(tmp_path: Path) -> None:
    out, shard = tmp_path / "run", tmp_path / "data" / "00000.tar"
    out.mkdir()
    shard.parent.mkdir()
    marks = []
    for content in (b"before", b"after"):
        shard.write_bytes(content)
        note_data(out, [str(shard.parent), "hf://owner/name"], "ViT-B-32")
        marks.append(mark_of(shard))
    seen = seen_data(out)
    assert seen is not None
    assert seen.sources == (str(shard.parent), "hf://owner/name")
    assert seen.init == "ViT-B-32"
    assert [(file.path, file.mark) for file in seen.files] == [(shard, mark) for mark in marks]


@pytest.mark.parametrize("content", [None, "", "[]", '{"files": [{}], "sources": [], "init": ""}'])
def test_a_run_without_a_note_or_with_a_damaged_one_has_seen_nothing_that_is_known(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "data.json").write_text(content)
    assert seen_data(tmp_path) is None
