"""What rules removed: counts, examples that depend on no order, and a page that shows nothing unescaped or unmasked."""

import json
import random
from pathlib import Path

from diptych.collect.captions.report.page import Part, PictureExample, write_report
from diptych.collect.captions.report.removed import EXAMPLES, Removed

RULES = {"interface": "buttons", "personal-data": "addresses", "date": "nothing but a date"}


def noted(texts: list[str]) -> Removed:
    removed = Removed()
    for text in texts:
        removed.add(text, "interface")
    return removed


def test_examples_are_the_same_in_any_order_and_from_any_number_of_processes() -> None:
    texts = [f"Read more of {at}" for at in range(100)] * 2
    whole = noted(texts)
    random.Random(1).shuffle(texts)
    halves = noted(texts[:77])
    halves.merge(noted(texts[77:]))
    assert len(whole.examples("interface")) == EXAMPLES
    assert halves.examples("interface") == whole.examples("interface")
    assert halves.counts == whole.counts == {"interface": 200}


def test_the_report_counts_and_shows_examples(tmp_path: Path) -> None:
    removed = Removed()
    for text, rule in (
        ("A heron", None), ("Click <b>here</b> \u202egpj", "interface"), ("Read more", "interface"),
        ("Boat, call +49 30 1234567 or a@b.example", "personal-data"), ("x" * 500, "interface"),
    ):  # fmt: skip
        removed.add(text, rule)
    path = write_report(tmp_path, {"Captions": Part(removed, RULES)})
    html = path.read_text(encoding="utf-8")
    assert "Click &lt;b&gt;here&lt;/b&gt; \\u202egpj" in html
    assert "1234567" not in html
    assert "a@b.example" not in html
    assert "x" * 201 not in html
    assert "script" not in html.partition("<body>")[2]
    assert "<strong>1</strong> of 5 are kept (20.0 %)" in html
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["captions"]["seen"] == 5
    assert content["captions"]["kept"] == 1
    assert {name: rule["count"] for name, rule in content["captions"]["rules"].items()} == {
        "interface": 3, "personal-data": 1, "date": 0,
    }  # fmt: skip
    assert content["captions"]["rules"]["personal-data"]["examples"] == ["Boat, call ••• or •••"]
    first = path.read_bytes()
    assert write_report(tmp_path, {"Captions": Part(removed, RULES)}).read_bytes() == first


def test_a_caption_under_its_picture_is_not_listed_once_more(tmp_path: Path) -> None:
    removed = noted(["A heron", "A crane"])
    pictures = {"interface": [PictureExample("data:,", "A heron")]}
    html = write_report(tmp_path, {"Pairs": Part(removed, RULES, pictures)}).read_text(encoding="utf-8")
    assert (html.count("A heron"), html.count("A crane")) == (1, 1)
    pictures["interface"].append(PictureExample("data:,", "A crane"))
    html = write_report(tmp_path, {"Pairs": Part(removed, RULES, pictures)}).read_text(encoding="utf-8")
    assert 'class="examples"' not in html


def test_a_set_of_which_nothing_was_removed(tmp_path: Path) -> None:
    removed = Removed()
    removed.add("A heron", None)
    assert "No rule removed anything" in write_report(tmp_path, {"Captions": Part(removed, RULES)}).read_text()
