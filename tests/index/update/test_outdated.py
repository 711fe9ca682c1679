"""After an update of the program, only the files that it reads differently are embedded again, and they are named."""

import io
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawn_files import GREEN, RED, exif, video
from index_model import DIM, InlineReaders, PixelModel, draw, expected
from legacy_catalog import as_earlier
from PIL import Image, PngImagePlugin

import diptych
from diptych.checkpoint.fingerprint import legacy_config
from diptych.cli import OK
from diptych.index.local import LocalIndex, open_index
from diptych.index.update import outdated
from diptych.index.update.outdated_kinds import has_new_metadata, outdated_kind
from diptych.index.update.precomputed import open_precomputed
from diptych.media.reading import readers
from diptych.text.cleaning import OPENAI, PLAIN, TextPreprocessing
from diptych.text.tokenizer import Tokenizer
from tests.conftest import Cli

OLD_S = 1_600_000_000
STALE = np.eye(DIM, dtype=np.float16)[0]  # what an earlier version made of everything


def noise(mode: str = "RGB") -> Image.Image:
    picture = Image.fromarray(np.random.default_rng(5).integers(0, 256, (12, 16, 3), dtype=np.uint8))
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(np.random.default_rng(6).integers(0, 256, (12, 16), dtype=np.uint8)))
    return picture.convert("L").convert(mode) if mode == "I;16" else picture.convert(mode)


def stored(mode: str, form: str, **options: object) -> Callable[[], bytes]:
    def made() -> bytes:
        file = io.BytesIO()
        noise(mode).save(file, form, **options)
        return file.getvalue()

    return made


def png_with_transparent_colour() -> bytes:
    said = PngImagePlugin.PngInfo()
    said.add_text("Comment", "words " * 5000)  # before the chunk that is looked for
    return stored("RGB", "PNG", transparency=(1, 2, 3), pnginfo=said)()


TURN = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
FILES = {
    "plain.tif": (stored("RGB", "TIFF"), None),
    "packed.tif": (stored("L", "TIFF", compression="tiff_lzw"), None),
    "inks.tif": (stored("CMYK", "TIFF"), None),
    "grey.tif": (stored("I;16", "TIFF"), "TIFF"),
    "palette.tif": (stored("P", "TIFF"), "TIFF"),
    "clear.tif": (stored("RGBA", "TIFF"), "TIFF"),
    "bits.tif": (stored("1", "TIFF"), "TIFF"),
    "pages.tif": (stored("RGB", "TIFF", save_all=True, append_images=[Image.new("RGB", (4, 4))]), "TIFF"),
    "large.tif": (stored("L", "TIFF", big_tiff=True), "TIFF"),
    "turned.jpg": (stored("RGB", "JPEG", xmp=TURN), "turned"),
    "turned.webp": (stored("RGB", "WEBP", xmp=TURN), "turned"),
    "turned-by-both.jpg": (stored("RGB", "JPEG", xmp=TURN, exif=exif(orientation=6)), None),
    "upright.jpg": (stored("RGB", "JPEG", xmp=TURN.replace(b"6", b"1")), None),
    "palette.png": (stored("P", "PNG"), "with a palette"),
    "bits.png": (stored("1", "PNG"), "black and white"),
    "clear.png": (stored("RGBA", "PNG"), "transparent"),
    "clear-grey.png": (stored("LA", "PNG"), "transparent"),
    "colour.png": (png_with_transparent_colour, "transparent"),
    "moving.png": (stored("RGB", "PNG", save_all=True, append_images=[noise("L").convert("RGB")]), "animation"),
    "plain.png": (stored("RGB", "PNG"), None),
    "grey.png": (stored("L", "PNG"), None),
    "a.gif": (stored("P", "GIF"), "with a palette"),
    "clear.webp": (stored("RGBA", "WEBP"), "transparent"),
    "clear-whole.webp": (stored("RGBA", "WEBP", lossless=True), "transparent"),
    "moving.webp": (stored("RGB", "WEBP", save_all=True, append_images=[noise("L")]), "animation"),
    "plain.webp": (stored("RGB", "WEBP"), None),
    "whole.webp": (stored("RGB", "WEBP", lossless=True), None),
    "palette.bmp": (stored("P", "BMP"), "with a palette"),
    "plain.bmp": (stored("RGB", "BMP"), None),
    "bits.pbm": (stored("1", "PPM"), "black and white"),
    "plain.ppm": (stored("RGB", "PPM"), None),
    "photograph.jpg": (stored("RGB", "JPEG"), None),
    "called.jpg": (stored("P", "PNG"), "with a palette"),
    "clear.avif": (stored("RGBA", "AVIF"), "transparent"),
    "plain.avif": (stored("RGB", "AVIF"), None),
    "whole.jp2": (stored("RGB", "JPEG2000"), "JPEG 2000"),
    "small.ico": (stored("RGBA", "ICO"), "transparent"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_bytes_of_a_file_tell_whether_it_is_read_differently(name: str, tmp_path: Path) -> None:
    made, kind = FILES[name]
    content = made()
    (tmp_path / name).write_bytes(content)
    assert outdated_kind(str(tmp_path / name), "picture") == kind
    for end in {*range(0, min(len(content), 80), 3), *range(max(0, len(content) - 250), len(content), 11)}:  # cut
        (tmp_path / name).write_bytes(content[:end])
        outdated_kind(str(tmp_path / name), "picture")


def test_files_that_are_not_pictures(tmp_path: Path) -> None:
    assert outdated_kind(str(tmp_path / "gone.png"), "picture") is None
    assert outdated_kind("any.mp4", "video") == "film"
    assert outdated_kind("any.txt", "text") is None
    (tmp_path / "raw.dng").write_bytes(b"II*\0" + bytes(100))
    assert outdated_kind(str(tmp_path / "raw.dng"), "picture") is None


@pytest.fixture
def earlier(model: PixelModel, tmp_path: Path) -> LocalIndex:
    """An index as 0.1.0 left it, whose vectors no model made."""
    root = tmp_path / "pictures"
    root.mkdir()
    for name in ("grey.tif", "palette.png", "clear.png", "plain.png", "photograph.jpg"):
        (root / name).write_bytes(FILES[name][0]())
    (root / "notes.md").write_text("One.\n\nTwo.\n")
    (root / "broken.jpg").write_bytes(b"no picture")
    for path in root.iterdir():
        os.utime(path, (OLD_S, OLD_S))
    index = open_index(root, model=model)
    index.update()
    made_stale(index)
    return open_index(root, model=model)


def made_stale(index: LocalIndex) -> None:
    index.close()
    with sqlite3.connect(index.catalog_path) as db:
        db.execute("UPDATE items SET vector = ?", (STALE.tobytes(),))
    db.close()
    as_earlier(index.catalog_path)


def is_stale(index: LocalIndex, path: str) -> bool:
    (vector, *_) = index.catalog.vectors_of(index.catalog.matching("path = ?", (path,)))
    if np.array_equal(vector, STALE):
        return True
    np.testing.assert_allclose(vector, expected(index.root / path, PixelModel()), atol=1e-3)
    return False


def test_only_outdated_files_are_embedded_again_and_named(earlier: LocalIndex, model: PixelModel) -> None:
    model.embedded = 0
    done = earlier.update()
    assert done.reread == {"TIFF": 1, "transparent": 1, "with a palette": 1}
    assert (done.changed, done.unchanged, done.failed_before) == (0, 6, 1)
    assert list(done.failures) == ["broken.jpg"]  # tried by this version, too
    assert not done.is_unchanged
    assert model.embedded == 3
    names = ("grey.tif", "palette.png", "clear.png", "plain.png", "photograph.jpg")
    assert [is_stale(earlier, name) for name in names] == [False, False, False, True, True]
    assert earlier.update().is_unchanged
    assert model.embedded == 3
    for modality in ("picture", "text"):
        nearest = earlier.nearest(modality)  # type: ignore[arg-type]
        assert nearest.ids.tolist() == earlier.catalog.ids(modality).tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [("index",), ("search", "a star")])
def test_the_command_names_them(cli: Cli, earlier: LocalIndex, command: tuple[str, ...]) -> None:
    earlier.close()
    (earlier.root / "broken.jpg").unlink()
    said = cli(*command, earlier.root)
    assert said.code == OK
    assert "read 3 files again, which this version reads better: 1 transparent, 1 TIFF, 1 with a" in said.err
    assert cli("index", earlier.root, "--json").json["reread"] == {}


def test_videos_are_read_again(model: PixelModel, tmp_path: Path) -> None:
    """All of them, because only a decoder could tell which are read differently; also a video with a picture's name."""
    film = video(tmp_path / "film.mp4", [RED, GREEN])
    shutil.copy(film, tmp_path / "called.gif")
    with open_index(tmp_path, model=model) as index:
        index.update()
        assert {one.kind for one in index.catalog.files().values()} == {"video"}
        made_stale(index)
        assert index.update().reread == {"film": 2}
        vectors = index.catalog.vectors_of(index.catalog.ids("picture"))
        assert len(vectors) > 2
        assert not (vectors == STALE).all(axis=1).any()
        assert index.update().is_unchanged


def test_a_search_without_an_update_reports_outdated_files(
    cli: Cli, earlier: LocalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.cli.auto_update.MAX_SCANNED", 1)
    assert "7 were read by an earlier version; --update rereads" in cli("search", "a star", earlier.root).err
    assert "read by an earlier version  7 (diptych index" in cli("doctor", earlier.root).out
    earlier.update()
    assert "earlier version" not in cli("search", "a star", earlier.root).err
    assert "earlier version" not in cli("doctor", earlier.root).out


def test_an_interrupted_update_continues(
    earlier: LocalIndex, model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(InlineReaders):
        def read(self, files):  # type: ignore[no-untyped-def]
            yield next(super().read(list(files)[:1]))
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(readers, "ReaderPool", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            earlier.update()
    earlier.update()
    names = ("grey.tif", "palette.png", "clear.png", "plain.png")
    assert [is_stale(earlier, name) for name in names] == [False, False, False, True]


def test_a_copy_and_a_new_name_of_an_outdated_file(earlier: LocalIndex, model: PixelModel) -> None:
    """The bytes are known, but their vector is outdated."""
    shutil.copy(earlier.root / "grey.tif", earlier.root / "copy.tif")
    (earlier.root / "palette.png").rename(earlier.root / "renamed.png")
    os.utime(earlier.root / "clear.png", (OLD_S + 9, OLD_S + 9))
    (earlier.root / "grey.txt").write_text("a caption that came later")
    done = earlier.update()
    assert (done.added, done.renamed) == (1, 1)
    names = ("copy.tif", "renamed.png", "clear.png", "grey.tif", "plain.png")
    assert [is_stale(earlier, name) for name in names] == [False, False, False, False, True]


def test_a_file_in_an_unreachable_folder_is_checked_later(earlier: LocalIndex, model: PixelModel) -> None:
    away, earlier.follow_links = earlier.root.parent / "away.tif", True
    (earlier.root / "grey.tif").rename(away)
    with sqlite3.connect(earlier.catalog_path) as db:  # known under a link to nowhere
        db.execute("UPDATE files SET path = 'disk/grey.tif' WHERE path = 'grey.tif'")
    db.close()
    (earlier.root / "disk").symlink_to(earlier.root.parent / "disk")
    assert earlier.update().unreachable == 1
    (earlier.root.parent / "disk").mkdir()
    away.rename(earlier.root.parent / "disk" / "grey.tif")
    os.utime(earlier.root.parent / "disk" / "grey.tif", (OLD_S, OLD_S))
    assert earlier.update().reread == {"TIFF": 1}
    assert not is_stale(earlier, "disk/grey.tif")


def test_texts_are_embedded_again_where_their_ids_change(
    earlier: LocalIndex, model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outdated, "texts_tokenized_differently", lambda model, texts: {"Two."} & set(texts))
    model.embedded = 0
    done = earlier.update()
    assert done.reread["with a text"] == 1
    assert model.embedded == 5  # two paragraphs beside the three pictures
    vectors = earlier.catalog.vectors_of(earlier.catalog.matching("path = 'notes.md'"))
    np.testing.assert_allclose(vectors, model.embed_texts(["One.", "Two."]), atol=1e-3)
    assert is_stale(earlier, "plain.png")


def test_texts_are_compared_by_their_token_ids(tiny_model: Path) -> None:
    """With OpenAI's preprocessing, quotes, entities and ligatures are fixed first."""
    plain = diptych.load(tiny_model)
    texts = ["a red star", "It\u2019s a star", "a &amp; b", "two  stars"]
    assert outdated.texts_tokenized_differently(plain, texts) == set()
    cleaning = diptych.load(tiny_model)
    cleaning.text_preprocessing = OPENAI
    cleaning.tokenizer = Tokenizer.of_tower(str(plain.tokenizer_json), plain.config.text, OPENAI)
    assert outdated.texts_tokenized_differently(cleaning, texts) == {"It\u2019s a star", "a &amp; b"}


def test_texts_of_open_clips_siglip_were_padded_with_0(tiny_model: Path) -> None:
    """A bidirectional tower attends to the padding. Its picture vectors and its fingerprint stay the same."""
    plain = diptych.load(tiny_model)
    text = replace(plain.config.text, causal=False, pad_id=1)
    config, text_preprocessing = replace(plain.config, text=text), TextPreprocessing(("canonicalize",))
    model = SimpleNamespace(
        config=config, text_preprocessing=text_preprocessing, tokenizer_json=plain.tokenizer_json,
        tokenizer=Tokenizer.of_tower(str(plain.tokenizer_json), text, text_preprocessing),
    )  # fmt: skip
    assert outdated.texts_tokenized_differently(model, ["a red star"]) == {"a red star"}  # type: ignore[arg-type]
    assert legacy_config(config, text_preprocessing) == replace(config, text=replace(text, pad_id=0))
    assert legacy_config(config, PLAIN) == config
    assert legacy_config(plain.config, text_preprocessing) == plain.config


def test_a_date_that_was_missed_is_read_without_a_new_vector(model: PixelModel, tmp_path: Path) -> None:
    noise().save(tmp_path / "dated.jpg", exif=exif(changed="2019:05:01 12:30:00"))
    draw(tmp_path / "plain.png", 2)
    for path in tmp_path.iterdir():
        os.utime(path, (OLD_S, OLD_S))
    with open_index(tmp_path, model=model) as index:
        index.update()
        made_stale(index)
        with sqlite3.connect(index.catalog_path) as db:
            db.execute("UPDATE files SET taken_at = NULL")
        db.close()
        model.embedded = 0
        assert index.update().reread == {"with a date": 1}
        assert model.embedded == 0
        (found,) = index.catalog.items(index.catalog.matching("path = 'dated.jpg'"))
        assert found.details.taken_at == "2019-05-01T12:30:00"
        assert is_stale(index, "dated.jpg")


def test_vectors_written_by_an_earlier_version(model: PixelModel, tmp_path: Path) -> None:
    """Used for the files whose pixels are the same; the others are embedded."""
    import pyarrow
    import pyarrow.parquet

    root, out = tmp_path / "pictures", tmp_path / "vectors"
    root.mkdir()
    out.mkdir()
    names = ["grey.tif", "plain.png"]
    for name in names:
        (root / name).write_bytes(FILES[name][0]())
    np.save(out / "00000.npy", np.stack([STALE, STALE]))
    said = {"diptych.model": "m", "diptych.fingerprint": model.fingerprint}
    for extra, taken in (({}, {"plain.png"}), ({"diptych.reading": "2"}, set(names))):
        table = pyarrow.table({"path": names}).replace_schema_metadata({**said, **extra})
        pyarrow.parquet.write_table(table, out / "00000.parquet")
        given = open_precomputed(out, None, root)
        with open_index(root, model=model, index=tmp_path / f"index-{len(taken)}") as index:
            index.update(precomputed=given)
            assert given.used == taken
            assert given.outdated == set(names) - taken
            assert given.unused == set()
            assert [is_stale(index, name) for name in names] == ["grey.tif" in taken, True]


@pytest.mark.parametrize(
    ("said", "undated", "placed", "kind"),
    [
        ({"changed": "2019:05:01 24:10:00"}, True, False, "with a date"),
        ({"changed": "2019:05:01 12:30:00"}, False, False, None),
        ({"description": "a dog"}, True, True, "with a place"),
        ({"description": "a dog"}, True, False, None),
        ({"gps": (52.5, 13.4)}, True, True, None),
        ({}, True, True, None),
    ],
)
def test_files_with_metadata_that_was_missed(
    said: dict[str, object], undated: bool, placed: bool, kind: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    noise().save(path, **({"exif": exif(**said)} if said else {}))
    assert has_new_metadata(str(path), is_undated=undated, has_gps=placed) == kind
    path.with_suffix(".xmp").write_text("<x/>")
    assert has_new_metadata(str(path), is_undated=True, has_gps=False) == "with a date"
