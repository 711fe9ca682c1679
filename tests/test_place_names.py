"""The word "place" means a place on the earth, and nothing else, in names, flags, help and prose."""

from pathlib import Path

import place_names
import pytest
from place_names import ALLOWED, ROOT, files, pages, uses_in

SOURCE = '''"""A model that is put in the place of another."""
import places.reading as place_reader
class HasPlaces:
    places: int
    place = RenamedAttribute("place", "index_dir")
@renamed_arguments(place="box")
def read(at_place, *, replace="in", key="place"):  # the first place
    """Replaces what a placeholder stands for."""
    self.place.displace(place=[place for place in key])
    click.option("--places", help="Look at places.")
    Array["batch places dim"]
'''


def test_every_use_is_seen_and_no_other_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_names, "ROOT", tmp_path)
    path = tmp_path / "place" / "model.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    found = sorted((use.line, use.kind) for use in uses_in(path))
    assert found == [
        (0, "path"), (1, "text"), (2, "name"), (2, "name"), (3, "name"), (4, "name"), (7, "comment"), (7, "name"),
        (9, "name"), (9, "name"), (9, "name"), (9, "name"), (10, "text"), (10, "text"), (11, "text"),
    ]  # fmt: skip


def test_place_means_geography_alone() -> None:
    assert [use for path in [*files("diptych", "bench", "examples"), *pages()] for use in uses_in(path)] == []


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_is_used(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [words for words in ALLOWED[name] if words not in text] == []
