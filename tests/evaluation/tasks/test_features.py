"""Image vectors of a set: those that the model makes, kept, gone on with, and made again where they are damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.embedder import Embedder
from diptych.errors import DataError
from diptych.evaluation.sets.dataset import PictureSequence, identity_of
from diptych.evaluation.tasks import features
from diptych.evaluation.tasks.features import ImageTransform, image_vectors
from diptych.media.scanning.image_files import find_images


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Embedder:
    return diptych.load(tiny_model)


@pytest.fixture
def album(pictures: Path, tmp_path: Path) -> PictureSequence:
    """Eight good pictures, and as the third a broken one."""
    folder = tmp_path / "album"
    shutil.copytree(pictures, folder)
    paths = find_images(folder)
    (folder / "broken.png").write_bytes(b"no picture")
    paths.insert(2, folder / "broken.png")
    return PictureSequence([path.name for path in paths], paths.__getitem__, identity_of(folder, paths))


def test_vectors_are_the_models_and_bad_pictures_are_counted(model: Embedder, album: PictureSequence) -> None:
    seen = image_vectors(model, album, decode="exact")
    assert seen.indices.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    expected = model.embed_images([album.read(place) for place in seen.indices])
    np.testing.assert_allclose(seen.vectors, expected, atol=1e-5)
    assert seen.reasons() == {"not an image": 1}
    assert "broken.png" in seen.failures[2].message


def test_work_that_is_cut_off_goes_on(
    model: Embedder, album: PictureSequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CHUNK", 2)

    def cut(done: int, total: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        image_vectors(model, album, tmp_path / "kept", progress=cut)
    again = image_vectors(model, album, tmp_path / "kept")
    assert again.cached >= 4
    assert image_vectors(model, album, tmp_path / "kept").cached == 9
    np.testing.assert_array_equal(again.vectors, image_vectors(model, album).vectors)
    assert again.reasons() == {"not an image": 1}


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn", "flip"])
def test_damaged_chunks_are_made_again(
    model: Embedder, album: PictureSequence, tmp_path: Path, damage: bytes | str
) -> None:
    first = image_vectors(model, album, tmp_path)
    (path,) = tmp_path.rglob("*.npz")
    content = bytearray(path.read_bytes())
    if isinstance(damage, str):
        content[len(content) // 2] ^= 0xFF  # inside the vectors
        damage = bytes(content)
    path.write_bytes(damage)
    again = image_vectors(model, album, tmp_path)
    assert again.cached == 0
    np.testing.assert_array_equal(again.vectors, first.vectors)
    assert image_vectors(model, album, tmp_path).cached == 9


def test_another_set_decoding_or_change_is_kept_apart(model: Embedder, album: PictureSequence, tmp_path: Path) -> None:
    image_vectors(model, album, tmp_path)
    grey = ImageTransform("grey", lambda image, seed: image.convert("L").convert("RGB"), 64)
    for options in ({"decode": "exact"}, {"transform": grey}):
        assert image_vectors(model, album, tmp_path, **options).cached == 0
    other = PictureSequence(album.keys, album.read, "other")
    assert image_vectors(model, other, tmp_path).cached == 0
    plain = image_vectors(model, album, tmp_path)
    changed = image_vectors(model, album, tmp_path, transform=grey)
    assert (plain.cached, changed.cached) == (9, 9)
    assert np.abs(plain.vectors - changed.vectors).max() > 1e-3


def test_nothing_but_bad_pictures_is_an_error(model: Embedder, tmp_path: Path) -> None:
    missing = PictureSequence(["gone.jpg"], lambda place: tmp_path / "gone.jpg", "x")
    with pytest.raises(DataError, match=r"none of the 1 pictures .*gone\.jpg"):
        image_vectors(model, missing)


def test_vectors_of_an_earlier_reading_are_not_taken(
    model: Embedder, album: PictureSequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(features, "READING", 1)
        image_vectors(model, album, tmp_path)
    assert image_vectors(model, album, tmp_path).cached == 0
    assert image_vectors(model, album, tmp_path).cached == 9
