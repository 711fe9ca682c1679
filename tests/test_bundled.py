"""The model in the package: it is there, it is small, it says what it is, and it knows what it was taught."""

import io
import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
import skimage.data
from PIL import Image

import diptych
from diptych.embedder import BUNDLED, Embedder
from diptych.errors import IndexModelError
from diptych.index.model import check_bundled
from diptych.scenes.scene import HELD_OUT, KINDS, draw_pair, draw_scene
from diptych.scoring.difference import difference
from diptych.scoring.locate import iou

pytestmark = pytest.mark.precision

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
    for word in (
        "Flickr8k",
        "licence",
        "Recipe",
        "recall@1",
        "drawn scenes",
        "cannot",
        "Apache-2.0",
        "no zero-shot result",
    ):
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


def test_colours_and_kinds_of_held_out_things(model: Embedder) -> None:
    """One thing in a colour that its kind never had in training: chance is 1 in 12, and 1 in 32."""
    colours = kinds = 0
    for seed in range(60):
        scene = draw_scene(seed, split="test", things=(1, 1))
        thing = scene.things[0]
        assert (thing.colour, thing.kind) in HELD_OUT
        vector = model.embed_images([scene.image])
        of_colours = [f"a {colour} {thing.kind}" for colour in COLOURS]
        of_kinds = [f"a {thing.colour} {kind}" for kind in KINDS]
        right = f"a {thing.colour} {thing.kind}"
        colours += model.classify(vector, of_colours, templates=["{}"]).best[0] == right
        kinds += model.classify(vector, of_kinds, templates=["{}"]).best[0] == right
    assert colours / 60 >= 0.9
    assert kinds / 60 >= 0.75


def test_things_among_others_are_found_and_told_apart(model: Embedder) -> None:
    """Two to five things, one of them never seen in training: where each is, and which colour."""
    inside, overlaps, colours = [], [], []
    for seed in range(25):
        scene = draw_scene(seed, split="test", things=(2, 5), size_px=192)
        named = [(thing.colour, thing.kind) for thing in scene.things]
        for thing in scene.things:
            if named.count((thing.colour, thing.kind)) == 1:
                best = model.locate(scene.image, f"a {thing.colour} {thing.kind}").boxes[0]
                x, y, width, height = thing.box_xywh_px
                inside.append(0 <= best.x + best.width / 2 - x <= width and 0 <= best.y + best.height / 2 - y <= height)
                overlaps.append(iou(best, thing.box_xywh_px))
            if [kind for _, kind in named].count(thing.kind) == 1:
                labels = [f"{colour} {thing.kind}" for colour in COLOURS]
                said = model.classify([scene.image], labels, templates=["a {}"], patches=True).best[0]
                colours.append(said == f"{thing.colour} {thing.kind}")
    assert np.mean(inside) >= 0.85
    assert np.mean(overlaps) >= 0.5
    assert np.mean(colours) >= 0.8


def test_what_was_added_is_named(model: Embedder) -> None:
    """The same scene with one thing more: its kind among twelve words; chance is 1 in 12."""
    right = 0
    for seed in range(40):
        before, after, added = draw_pair(seed, size_px=192, split="test")
        words = (added.kind, *Random(seed).sample([kind for kind in KINDS if kind != added.kind], 11))
        first, second = model.embed_images([before.image, after.image])
        said = difference(first, second, model.embed_labels(words), words, scale=model.scale)
        right += int(said.appeared.argmax() == 0)
    assert right / 40 >= 0.7


def test_sentences_find_their_photographs(model: Embedder) -> None:
    """Real pictures that were in no training set, by words that no caption of the training has."""
    pictures = [getattr(skimage.data, name)() for name in ("chelsea", "coffee", "camera")]
    pictures.append(skimage.data.stereo_motorcycle()[0])
    cosines = model.similarity(pictures, ["a kitten", "espresso", "a photographer with a tripod", "a motorbike"])
    assert cosines.argmax(axis=0).tolist() == [0, 1, 2, 3]
    assert cosines.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_an_index_knows_it_without_an_engine(model: Embedder) -> None:
    check_bundled(Path("photos"), {"model": "bundled", "fingerprint": model.fingerprint})
    with pytest.raises(IndexModelError, match=r"former bundled model|an earlier version"):
        check_bundled(Path("photos"), {"model": "bundled", "fingerprint": "0" * 32})


def test_loading_by_folder_is_the_same(model: Embedder) -> None:
    again = diptych.load(Path(BUNDLED), device="cpu")
    assert np.array_equal(again.embed_texts(["a dog"]), model.embed_texts(["a dog"]))
