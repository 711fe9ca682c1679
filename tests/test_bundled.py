"""The model in the package: it is there, it is small, it says what it is, and it knows what it was taught."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

import diptych
from diptych.data.scenes import HELD_OUT, draw_scene
from diptych.embedder import BUNDLED, Embedder

COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "black", "white", "grey", "cyan")


@pytest.fixture(scope="module")
def model() -> Embedder:
    return diptych.load(device="cpu")


def test_it_is_whole_and_small() -> None:
    files = {path.name: path.stat().st_size for path in BUNDLED.iterdir() if path.is_file()}
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "README.md"}
    assert wanted <= files.keys()
    assert sum(files.values()) <= 25_000_000


def test_the_card_says_data_licence_recipe_and_recall() -> None:
    card = (BUNDLED / "README.md").read_text(encoding="utf-8")
    for word in ("Flickr8k", "licence", "Recipe", "recall@1", "drawn scenes", "cannot"):
        assert word.lower() in card.lower(), word
    assert len(re.findall(r"\|\s*\d+\.\d\s*", card)) >= 6


def jpeg(pixels: np.ndarray, width_px: int) -> bytes:
    """A large JPEG, where a decoder's scaling has something to save."""
    picture = Image.fromarray(pixels).convert("RGB")
    height_px = round(width_px * picture.height / picture.width)
    file = io.BytesIO()
    picture.resize((width_px, height_px), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket", "page", "brick", "hubble_deep_field"])
def test_fast_decoding_changes_hardly_anything(model: Embedder, name: str) -> None:
    pixels = getattr(skimage.data, name)()
    pictures = [jpeg(pixels, width_px) for width_px in (300, 777, 1600, 3000)]
    exact, fast = (model.embed_images(pictures, decode=decode) for decode in ("exact", "fast"))
    assert (exact * fast).sum(axis=1).min() >= 0.998


def test_colours_of_held_out_things(model: Embedder) -> None:
    """One large thing in a colour that its shape never had in training: chance is 1 in 12."""
    right = 0
    for seed in range(120):
        scene = draw_scene(seed, split="test", things=(1, 1))
        thing = scene.things[0]
        assert (thing.colour, thing.kind) in HELD_OUT
        labels = [f"a {colour} {thing.kind}" for colour in COLOURS]
        right += model.classify([scene.image], labels, templates=["{}"]).best[0] == f"a {thing.colour} {thing.kind}"
    assert right / 120 >= 0.5


def test_sentences_find_their_photographs(model: Embedder) -> None:
    """Real pictures that were in no training set."""
    pictures = [skimage.data.astronaut(), skimage.data.rocket(), skimage.data.stereo_motorcycle()[0]]
    cosines = model.similarity(pictures, ["a smiling woman", "the sky at night", "a motorcycle"])
    assert cosines.argmax(axis=0).tolist()[2] == 2
    assert (np.diag(cosines) > cosines.mean(axis=0)).all()


def test_loading_by_folder_is_the_same(model: Embedder) -> None:
    again = diptych.load(Path(BUNDLED), device="cpu")
    assert np.array_equal(again.embed_texts(["a dog"]), model.embed_texts(["a dog"]))
