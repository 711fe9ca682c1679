"""Shards to shards: what is left out is counted by its reason; what stays is whole, once, and the best of its kind."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from filtered_pairs import best_captions, encoded, good, kept, pair, soft, written
from PIL import Image

from diptych.collect import filtering
from diptych.collect.filtering import FilterSettings, filter_shards
from diptych.collect.output.forgetting import forget
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.run_log import read_runs
from diptych.errors import ArgumentError, DataError


def test_what_is_left_out_is_counted_by_its_reason(tmp_path: Path) -> None:
    pairs = [
        good(0),
        pair(soft(0).resize((96, 72)), "The same dog, smaller"),
        pair(encoded(soft(0), quality=40), "The same dog in the garden"),
        pair(soft(20, (40, 40)), "A very small dog"),
        pair(soft(21, (600, 100)), "A long row of trees"),
        pair(Image.new("RGB", (192, 144), "red"), "A red wall in the sun"),
        pair(soft(22), "IMG_1234.JPG", "click to enlarge"),
        good(1),
    ]
    result = filter_shards(written(tmp_path / "in", pairs[:5], pairs[5:]), tmp_path / "out", FilterSettings())
    assert (result.seen, result.kept) == (8, 2)
    counts = dict(result.removed)
    assert counts.pop("file-name") == 1
    assert counts == {"near-duplicate": 2, "small": 1, "aspect": 1, "single-colour": 1}
    assert kept(tmp_path / "out") == [good(0), good(1)]
    [run] = read_runs(tmp_path / "out")
    assert (run.command, run.flags, run.found, run.kept, run.left_out) == ("filter", {}, 8, 2, dict(result.removed))


def test_the_largest_of_the_copies_is_kept(tmp_path: Path) -> None:
    pairs = [pair(soft(0).resize((96, 72)), "A small dog in a garden"), pair(soft(0), "A large dog in a garden")]
    filter_shards(written(tmp_path / "in", pairs), tmp_path / "out", FilterSettings())
    assert best_captions(tmp_path / "out") == ["A large dog in a garden"]


def test_every_rule_can_be_disabled(tmp_path: Path) -> None:
    pairs = [good(0), good(0), pair(soft(21, (40, 40)), "150,00 EUR"), pair(soft(22, (600, 100)), "A row of trees")]
    disabled = (
        "near-duplicate",
        "small",
        "aspect",
        "price",
        "dimensions",
        "identifier",
        "words",
        "too-short",
        "abstract",
    )
    result = filter_shards(written(tmp_path / "in", pairs), tmp_path / "out", FilterSettings(disabled=disabled))
    assert (result.kept, result.removed) == (4, {})
    assert read_runs(tmp_path / "out")[0].flags == {"disabled": list(disabled)}
    with pytest.raises(ArgumentError, match="no rule 'smal'"):
        FilterSettings(disabled=("smal",))


def test_captions_that_may_not_be_used_do_not_stay_beside_others(tmp_path: Path) -> None:
    pairs = [pair(soft(0), "IMG_1234.JPG", "A dog near the old harbour")]
    filter_shards(written(tmp_path / "in", pairs), tmp_path / "out", FilterSettings())
    assert [words.text for words in kept(tmp_path / "out")[0].captions] == ["A dog near the old harbour"]


def test_pictures_become_smaller_and_keep_what_names_them(tmp_path: Path) -> None:
    filter_shards(written(tmp_path / "in", [good(0)]), tmp_path / "out", FilterSettings(size=72))
    (found,) = kept(tmp_path / "out")
    assert (found.picture.width, found.picture.height) == (96, 72)
    before = good(0).picture
    named = ("sha256", "original_width", "original_height")
    assert [getattr(found.picture, name) for name in named] == [getattr(before, name) for name in named]


def shard_of(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def test_shards_of_others(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[274] = 6
    moving = encoded(soft(2), "GIF", save_all=True, append_images=[soft(3)])
    members = {
        "0.jpg": encoded(soft(0), exif=turned),
        "0.txt": b"A dog near the old harbour",
        "1.gif": moving,
        "1.txt": b"A cat near the old harbour",
        "2.jpg": encoded(soft(4))[:3000],
        "2.txt": b"A horse near the old harbour",
        "3.png": encoded(soft(5), "PNG"),
        "3.json": b'{"captions": ["A boat near the old harbour"]}',
    }
    result = filter_shards(shard_of(tmp_path / "in" / "a.tar", members), tmp_path / "out", FilterSettings())
    assert result.removed == {"animated": 1, "truncated": 1}
    first, second = kept(tmp_path / "out")
    assert (first.picture.width, first.picture.height) == (144, 192)
    assert second.captions[0] == ("A boat near the old harbour", "list")


def test_a_damaged_shard_gives_what_it_has(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [good(0), good(1), good(2)], [good(3)])
    path = folder / "00000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.55)])
    result = filter_shards(folder, tmp_path / "out", FilterSettings())
    assert result.removed == {"damaged shard": 1}
    assert kept(tmp_path / "out") == [good(0), good(3)]


@pytest.mark.parametrize("stage", ["counting", "looking", "deciding", "writing"])
def test_an_interrupted_run_goes_on(stage: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "in", *[[good(2 * number), good(2 * number + 1)] for number in range(3)], [good(0)])
    settings = FilterSettings(pairs_per_shard=4)
    filter_shards(folder, tmp_path / "once", settings)

    def interrupt(done: int, total: int) -> None:
        if done > total / 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_shards(folder, tmp_path / "twice", settings, **{stage: interrupt})
    result = filter_shards(folder, tmp_path / "twice", settings)
    assert (result.kept, result.removed) == (6, {"near-duplicate": 1})
    assert kept(tmp_path / "twice") == kept(tmp_path / "once") == [good(number) for number in range(6)]


def test_what_was_seen_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "in", [good(0)])
    filter_shards(folder, tmp_path / "out", FilterSettings())
    monkeypatch.setattr(filtering.Looker, "look", lambda *_, **__: pytest.fail("it looked again"))
    assert filter_shards(folder, tmp_path / "out", FilterSettings()).kept == 1
    assert len(kept(tmp_path / "out")) == 1


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [good(0)])
    filter_shards(folder, tmp_path / "out", FilterSettings())
    with pytest.raises(ArgumentError, match="other settings"):
        filter_shards(folder, tmp_path / "out", FilterSettings(min_side_px=10))
    with pytest.raises(ArgumentError, match="another folder"):
        filter_shards(folder, folder, FilterSettings())
    with pytest.raises(DataError, match="no shards"):
        filter_shards(tmp_path, tmp_path / "third", FilterSettings())


@pytest.mark.parametrize("folders", [("test/dog", "test/boat"), ("", "")], ids=["classes", "pictures"])
def test_pictures_of_evaluation_sets_are_left_out(folders: tuple[str, str], tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "set" / folders[0] / "0.webp").write_bytes(encoded(soft(0).resize((150, 112)), "WEBP", quality=70))
    (tmp_path / "set" / folders[1] / "9.jpg").write_bytes(encoded(soft(9)))
    folder = written(tmp_path / "in", [good(0), good(1)])
    settings = FilterSettings(evaluation_sets=(str(tmp_path / "set"),))
    result = filter_shards(folder, tmp_path / "out", settings)
    assert result.removed == {"evaluation-set": 1}
    assert kept(tmp_path / "out") == [good(1)]
    off = replace(settings, disabled=("evaluation-set",))
    assert filter_shards(folder, tmp_path / "all", off).kept == 2


def test_what_was_forgotten_after_a_run_is_not_written_by_the_same_run_again(tmp_path: Path) -> None:
    folder, out = written(tmp_path / "in", [good(0), good(1), good(2)]), tmp_path / "out"
    filter_shards(folder, out, FilterSettings())
    for number, left in ((0, [good(1), good(2)]), (2, [good(1)])):
        forget(out, [("url", f"https://a.example/{number}.jpg")])
        filter_shards(folder, out, FilterSettings())
        assert kept(out) == left


def test_what_is_forgotten_while_a_run_is_interrupted_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = written(tmp_path / "in", [good(0), good(1), good(2)]), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(filtering, "_finished", interrupt)
        with pytest.raises(KeyboardInterrupt):
            filter_shards(folder, out, FilterSettings())
    Forgotten(out).remember([("url", "https://a.example/1.jpg")])
    filter_shards(folder, out, FilterSettings())
    assert kept(out) == [good(0), good(2)]


def test_no_pair_is_written_twice_after_requests_between_interruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pair was forgotten before it was written, one afterwards."""
    folder, out = written(tmp_path / "in", [good(number) for number in range(7)]), tmp_path / "out"
    finish = filtering._finished
    for requests in ([1, 2], [5]):
        done = list[int]()

        def stopping(*given: object, done: list[int] = done) -> Pair:
            done.append(1)
            if len(done) > 2:
                raise KeyboardInterrupt
            return finish(*given)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(filtering, "_finished", stopping)
            with pytest.raises(KeyboardInterrupt):
                filter_shards(folder, out, FilterSettings())
        forget(out, [("url", f"https://a.example/{number}.jpg") for number in requests])
    for _ in range(2):
        filter_shards(folder, out, FilterSettings())
        assert kept(out) == [good(number) for number in (0, 3, 4, 6)]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_was_forgotten_stays_forgotten(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [good(0), good(1), good(2)])
    Forgotten(folder).remember([("url", "https://a.example/1.jpg")])
    Forgotten(tmp_path / "out").remember([("sha256", good(2).picture.sha256)])
    result = filter_shards(folder, tmp_path / "out", FilterSettings())
    assert result.removed == {"forgotten": 2}
    assert kept(tmp_path / "out") == [good(0)]
    assert Forgotten(tmp_path / "out").covers(url="https://a.example/1.jpg")
