"""The embedder: what it takes, what it promises of its vectors, and what it says of bad input."""

import dataclasses
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import diptych
from diptych.checkpoint import save_folder
from diptych.embedder import Embedder, Failure
from diptych.inference.batching import BATCH
from diptych.media.preprocessing import Preprocess, normalise
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.scoring import zero_shot
from diptych.text.tokenizer import Tokenizer

pytestmark = pytest.mark.precision

GOLDEN = Path(__file__).parent / "golden"
TEXTS = ["a red circle", "two blue stars on grass", "Une étoile, 星"]
LONG = "dog " * 5000


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Embedder:
    return diptych.load(tiny_model, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def paths(pictures: Path) -> list[Path]:
    return sorted(pictures.glob("*.png"))


def assert_unit(vectors: np.ndarray, count: int) -> None:
    assert vectors.shape == (count, 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


# --- vectors


def test_texts_become_unit_vectors(model: Embedder) -> None:
    assert_unit(model.embed_texts(TEXTS), 3)
    assert_unit(model.embed_texts(tuple(TEXTS)), 3)
    assert_unit(model.embed_texts([]), 0)


def test_every_kind_of_picture_gives_the_same_vector(model: Embedder, paths: list[Path]) -> None:
    data, pixels = paths[0].read_bytes(), np.asarray(Image.open(paths[0]).convert("RGB"))
    sources = [str(paths[0]), paths[0], data, bytearray(data), io.BytesIO(data), Image.open(paths[0]), pixels]
    vectors = model.embed_images(sources)
    assert_unit(vectors, len(sources))
    np.testing.assert_allclose(vectors, np.tile(vectors[0], (len(sources), 1)), atol=1e-6)
    assert_unit(model.embed_images([]), 0)
    assert_unit(model.embed_images(np.stack([pixels, pixels])), 2)  # one array of many pictures is a list, too
    assert_unit(model.embed_images(path for path in paths), len(paths))


def test_a_vector_does_not_depend_on_its_batch_mates(model: Embedder, paths: list[Path]) -> None:
    together = model.embed_images(paths * 10)
    np.testing.assert_allclose(together[: len(paths)], together[-len(paths) :], atol=1e-6)
    alone = np.concatenate([model.embed_images([path]) for path in paths])
    np.testing.assert_allclose(together[: len(paths)], alone, atol=1e-6)


@settings(max_examples=20)
@given(st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=2 * BATCH))
def test_any_text_has_a_vector_of_its_own(model: Embedder, texts: list[str]) -> None:
    """Also where it is padded for longer mates: any Unicode, across the boundary of a batch."""
    together = model.embed_texts(texts, truncate=True)
    assert_unit(together, len(texts))
    np.testing.assert_allclose(together[:1], model.embed_texts(texts[:1], truncate=True), atol=1e-6)
    np.testing.assert_allclose(together[-1:], model.embed_texts(texts[-1:], truncate=True), atol=1e-6)


def test_tokens_pixels_and_network(model: Embedder, paths: list[Path]) -> None:
    """What one needs for a loop of one's own: the network on these gives the same vectors."""
    tokens, pixels = model.tokenize(TEXTS), model.preprocess(paths[0])
    assert tokens.ids.dtype == np.int64
    assert tokens.mask.dtype == bool
    assert tokens.ids.shape == tokens.mask.shape
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.float32
    assert isinstance(model.network, CLIP)
    with torch.no_grad():
        output = model.network(torch.from_numpy(pixels[None]), torch.from_numpy(tokens.ids))
    np.testing.assert_allclose(output.image.numpy(), model.embed_images([paths[0]]), atol=1e-6)
    np.testing.assert_allclose(output.text.numpy(), model.embed_texts(TEXTS), atol=1e-6)
    assert model.model_input(paths[0]).size == (32, 32)
    assert model.scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert model.bias is None
    assert repr(model).startswith("<diptych.Embedder ")
    assert "64 dimensions, 32 px, OpenVINO on cpu" in repr(model)


def test_save_and_load_keep_the_vectors(model: Embedder, paths: list[Path], tmp_path: Path) -> None:
    folder = model.save(tmp_path / "copy")
    again = diptych.load(folder, device="cpu", precision="float32")
    np.testing.assert_array_equal(again.embed_texts(TEXTS), model.embed_texts(TEXTS))
    np.testing.assert_array_equal(again.embed_images(paths), model.embed_images(paths))
    assert again.preprocessing == model.preprocessing


# --- similarity and classification


def test_similarity_of_pictures_texts_and_vectors(model: Embedder, paths: list[Path]) -> None:
    images, texts = model.embed_images(paths), model.embed_texts(TEXTS)
    expected = images @ texts.T
    for left in (paths, images, 3 * images.astype(np.float64)):  # cosines, whatever the length
        for right in (TEXTS, texts, 0.1 * texts):
            result = model.similarity(left, right)
            assert result.dtype == np.float32
            np.testing.assert_allclose(result, expected, atol=1e-6)
    assert model.similarity(np.zeros((1, 64)), texts).tolist() == [[0, 0, 0]]
    for wrong in (images[0, :5], images[:, :5]):
        with pytest.raises(ValueError, match=r"floats .* vectors are \(n, 64\)"):
            model.similarity(wrong, TEXTS)
        with pytest.raises(ValueError, match=r"floats .* vectors are \(n, 64\)"):
            model.similarity(images, wrong)


def test_classify(model: Embedder, paths: list[Path]) -> None:
    labels = ["circle", "star", "house"]
    result = model.classify(paths, labels)
    assert result.labels == tuple(labels)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)
    assert result.best == tuple(labels[j] for j in result.probabilities.argmax(axis=1))
    texts = model.embed_texts([f"a photo of a {label}." for label in labels])
    logits = model.scale * model.similarity(paths, texts)
    weights = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(result.probabilities, weights / weights.sum(axis=1, keepdims=True), atol=1e-5)
    of_vectors = model.classify(model.embed_images(paths), labels)
    np.testing.assert_allclose(of_vectors.probabilities, result.probabilities, atol=1e-6)
    assert model.classify([], labels).probabilities.shape == (0, 3)


def test_classify_by_places(model: Embedder, paths: list[Path]) -> None:
    labels = ["circle", "star", "house"]
    found = model.classify(paths, labels, patches=True)
    pixels = np.stack([np.asarray(model.model_input(path)) for path in paths])
    whole, cosines = (each @ model.embed_labels(labels).T for each in model.engine.encode_patches(pixels))
    assert cosines.shape[1] == 16  # (pictures, places, labels)
    best = 0.9 * np.sort(cosines, axis=1)[:, -2:].mean(axis=1) + 0.1 * whole  # a tenth of them, rounded
    weights = np.exp(model.scale * best.astype(np.float64))
    np.testing.assert_allclose(found.probabilities, weights / weights.sum(axis=1, keepdims=True), atol=1e-5)
    assert model.classify([], labels, patches=True).probabilities.shape == (0, 3)
    with pytest.raises(diptych.ImageError):
        model.classify(["not-there.png"], labels, patches=True)


def test_templates_are_averaged_in_vector_space(model: Embedder, paths: list[Path]) -> None:
    one, two = (model.embed_texts([template.format("star")]) for template in ("a {}", "the {} there"))
    both = model.embed_labels(["star"], templates=["a {}", "the {} there"])
    np.testing.assert_allclose(both, zero_shot.unit(one + two), atol=1e-6)
    once, twice = (model.classify(paths, ["star", "house"], templates=["a {}"] * n) for n in (1, 2))
    np.testing.assert_allclose(twice.probabilities, once.probabilities, atol=1e-6)


def test_classify_says_what_is_wrong(model: Embedder, paths: list[Path]) -> None:
    for labels, templates, error, match in [
        ([], ["a {}"], ValueError, "labels is empty"),
        (7, ["a {}"], TypeError, "labels is a int; pass one item or a list"),
        (["cat"], 7, TypeError, "templates is a int; pass one item or a list"),
        (["cat", "cat"], ["a {}"], ValueError, "the label 'cat' is repeated"),
        ({"cat": []}, ["a {}"], ValueError, "the label 'cat' has no name"),
        (["cat"], [], ValueError, "templates is empty"),
        (["cat"], ["a photo"], ValueError, "'a photo' has no {}"),
        (["cat", " "], ["a {}"], diptych.TextError, "label 1 is empty"),
        ([LONG], ["a {}"], diptych.TokenizerError, r"\d+ tokens.*reads 40"),
    ]:
        with pytest.raises(error, match=match):
            model.classify(paths, labels, templates=templates)
    assert model.classify(paths, [LONG, "cat"], truncate=True).probabilities.shape == (len(paths), 2)


# --- bad texts


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text(model: Embedder, text: str) -> None:
    with pytest.raises(diptych.TextError, match="text 1 is empty; expected at least one word"):
        model.embed_texts(["a dog", text])


def test_text_that_is_no_text(model: Embedder) -> None:
    with pytest.raises(diptych.TextError, match="text 0 is a int; expected a string"):
        model.embed_texts([7])  # type: ignore[list-item]
    with pytest.raises(diptych.TextError, match=r"text 0 \('caf.udce9'\) contains invalid bytes"):
        model.embed_texts(["caf\udce9"])


def test_one_text_is_a_list_of_one(model: Embedder, paths: list[Path]) -> None:
    alone = model.embed_texts("a dog")
    np.testing.assert_array_equal(alone, model.embed_texts(["a dog"]))
    np.testing.assert_array_equal(model.similarity(paths, "a dog"), model.similarity(paths, ["a dog"]))
    np.testing.assert_array_equal(model.tokenize("a dog").ids, model.tokenize(["a dog"]).ids)
    assert model.try_embed_texts("a dog").keys == [0]
    with pytest.raises(TypeError, match="texts is a int; pass one item or a list"):
        model.embed_texts(7)  # type: ignore[arg-type]


def test_a_text_of_5000_words(model: Embedder) -> None:
    with pytest.raises(diptych.TokenizerError, match=r"^\d{4,5} tokens in text 1 \('dog dog.*reads 40.*truncate=True"):
        model.embed_texts(["a dog", LONG])
    with pytest.raises(diptych.TokenizerError, match=f"in text {2 * BATCH + 1} "):  # counted over all, not in its batch
        model.embed_texts([*["a dog"] * (2 * BATCH + 1), LONG])
    vectors = model.embed_texts(["a dog", LONG], truncate=True)
    assert_unit(vectors, 2)
    np.testing.assert_allclose(vectors[1:], model.embed_texts(["dog " * 900], truncate=True), atol=1e-6)
    assert model.tokenize(["a dog", LONG], truncate=True).truncated == 1


def test_ids_are_embedded_as_their_texts(model: Embedder) -> None:
    texts = ["a dog", "a red star on grass"]
    tokens = model.tokenize(texts)
    ids = [row[kept] for row, kept in zip(tokens.ids, tokens.mask, strict=True)]
    np.testing.assert_allclose(model.embed_tokens(ids), model.embed_texts(texts), atol=1e-6)
    assert model.embed_tokens([]).shape == (0, model.dim)
    with pytest.raises(diptych.TokenizerError, match="gives ids up to 99999"):
        model.embed_tokens([np.array([99_999])])


def test_readable_texts_leave_the_bad_ones_out(model: Embedder) -> None:
    result = model.try_embed_texts(["a dog", "", LONG, "a cat", 7, "\udcff"])  # type: ignore[list-item]
    assert result.keys == [0, 3]
    reasons = {at: failure.reason for at, failure in result.failures.items()}
    assert reasons == {1: "empty", 2: "too long", 4: "no text", 5: "not Unicode"}
    assert "tokens in text 2 ('dog dog" in result.failures[2].message
    np.testing.assert_allclose(result.vectors, model.embed_texts(["a dog", "a cat"]), atol=1e-6)
    assert model.try_embed_texts([LONG], truncate=True).keys == [0]
    assert model.try_embed_texts([""]).vectors.shape == (0, 64)


# --- bad pictures


def test_one_picture_is_a_list_of_one(model: Embedder, paths: list[Path]) -> None:
    """Neither the letters of a path, nor the rows of an array, nor the bytes of a file are pictures."""
    image = Image.open(paths[0]).convert("RGB")
    pixels = np.asarray(image)
    wanted = model.embed_images([paths[0]])
    for one in (str(paths[0]), paths[0], paths[0].read_bytes(), open(paths[0], "rb"), image, pixels):  # noqa: SIM115
        np.testing.assert_allclose(model.embed_images(one), wanted, atol=1e-6)
        ((_, vector),) = model.embed_stream([("the one", one)], decode="exact")
        np.testing.assert_allclose(vector, wanted[0], atol=1e-6)
    assert model.classify(paths[0], "a star").best == ("a star",)
    with pytest.raises(TypeError, match="images is a NoneType; pass one item or a list"):
        model.embed_images(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="items is a int; pass one item or a list"):
        next(model.embed_stream(7))  # type: ignore[arg-type]


def test_a_bad_picture_is_named(model: Embedder, paths: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("not a picture")
    with pytest.raises(diptych.ImageError, match=r"broken\.jpg: not an image") as caught:
        model.embed_images([*paths, broken])
    assert caught.value.reason == "not an image"
    with pytest.raises(diptych.ImageError, match=r"gone\.jpg: missing"):
        model.embed_images([tmp_path / "gone.jpg"])


def test_stream_keeps_its_order_around_bad_pictures(model: Embedder, paths: list[Path], tmp_path: Path) -> None:
    """Three batches; bad pictures first, last, at a boundary, and a batch in which none is good."""
    count, bad = 3 * BATCH, {0, 5, BATCH - 1, BATCH, *range(2 * BATCH - 1, 3 * BATCH)}
    items = [(f"key {i}", tmp_path / "gone.jpg" if i in bad else paths[i % len(paths)]) for i in range(count)]
    expected = model.embed_images(paths)
    results = list(model.embed_stream(items))
    assert [key for key, _ in results] == [key for key, _ in items]
    for i, (_, result) in enumerate(results):
        if i in bad:
            assert isinstance(result, Failure)
            assert result.reason == "missing"
            assert "gone.jpg" in result.message
        else:
            assert isinstance(result, np.ndarray)
            np.testing.assert_allclose(result, expected[i % len(paths)], atol=1e-6)


def test_a_path_is_its_own_key(model: Embedder, paths: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    gone = tmp_path / "gone.jpg"
    result = model.try_embed_images([paths[0], gone, str(paths[1])], progress=lambda *at: seen.append(at))
    assert result.keys == [paths[0], str(paths[1])]
    assert result.failures.keys() == {gone}
    assert_unit(result.vectors, 2)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_stream_is_lazy(model: Embedder, paths: list[Path]) -> None:
    """It reads a batch and a little ahead, however long the source; and a consumer that stops early ends it."""
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            assert taken < 1000
            yield paths[taken % len(paths)]

    stream = model.embed_stream(endless())
    assert taken == 0
    next(stream)
    assert taken <= BATCH + 1 + 2 * (os.cpu_count() or 1)
    stream.close()  # type: ignore[attr-defined]


# --- models


def changed(model: Path, target: Path, **contents: dict | str | None) -> Path:
    """A copy of a model folder with keys of JSON files replaced (a dict), or files replaced (a text) or gone (None)."""
    shutil.copytree(model, target)
    for stem, content in contents.items():
        file = target / f"{stem}.json"
        if content is None:
            file.unlink()
        elif isinstance(content, str):
            file.write_text(content)
        else:
            file.write_text(json.dumps(json.loads(file.read_text()) | content))
    return target


def test_model_without_its_tokenizer(tiny_model: Path, paths: list[Path], tmp_path: Path) -> None:
    model = diptych.load(changed(tiny_model, tmp_path / "mute", tokenizer=None), device="cpu")
    assert_unit(model.embed_images(paths), len(paths))
    for call in (model.embed_texts, model.tokenize, model.try_embed_texts):
        with pytest.raises(diptych.TokenizerError, match=r"mute has no tokenizer\.json.*Put there the tokenizer\.json"):
            call(["a dog"])
    bare = diptych.load(GOLDEN / "openai_vit" / "openai_vit.pt", device="cpu", precision="float32")
    with pytest.raises(diptych.TokenizerError, match=r"Put beside it the tokenizer\.json"):
        bare.embed_texts(["a dog"])
    saved = model.save(tmp_path / "again")
    assert not (saved / "tokenizer.json").exists()


@pytest.mark.parametrize("path", sorted((GOLDEN / "images").iterdir()), ids=lambda path: path.name)
def test_what_is_shown_is_what_the_tower_reads(model: Embedder, path: Path) -> None:
    """To the last bit, for palettes and alpha too, which are resized before they become RGB."""
    seen = normalise(np.asarray(model.model_input(path)), model.preprocessing)
    assert np.array_equal(seen, model.preprocess(path))


def test_a_single_file_takes_the_tokenizer_that_lies_beside_it(tiny_model: Path, tmp_path: Path) -> None:
    whole = diptych.load(tiny_model, device="cpu", precision="float32")
    file = diptych.convert(tiny_model, tmp_path / "tiny", to="open_clip") / "open_clip_model.safetensors"
    alone = Path(shutil.copy(file, tmp_path / "tiny.safetensors"))
    shutil.copy(tiny_model / "tokenizer.json", tmp_path)
    again = diptych.load(alone, activation="gelu", device="cpu", precision="float32")
    assert (again.tokenize(TEXTS).ids == whole.tokenize(TEXTS).ids).all()
    np.testing.assert_allclose(again.embed_texts(TEXTS), whole.embed_texts(TEXTS), atol=1e-6)


def test_model_files_that_do_not_belong_together(tiny_model: Path, tmp_path: Path) -> None:
    crop = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}
    larger = changed(tiny_model, tmp_path / "larger", preprocessor_config=crop)
    with pytest.raises(ValueError, match=r"larger: preprocessor_config.json makes pictures of 48 px.*reads 32 px"):
        diptych.load(larger, device="cpu")
    odd = changed(tiny_model, tmp_path / "odd", preprocessor_config={"image_processor_type": "Vilt"})
    with pytest.raises(ValueError, match=r"odd: image_processor_type='Vilt'"):
        diptych.load(odd, device="cpu")
    torn = changed(tiny_model, tmp_path / "torn", tokenizer="{")
    with pytest.raises(diptych.TokenizerError, match=r"torn: this is no tokenizer\.json"):
        diptych.load(torn, device="cpu")


@pytest.fixture
def sigmoid_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A SigLIP folder: its text tower is bidirectional, read at the last position; padding is part of the input."""
    source = preset("SigLIP-B/16")
    sizes = {"width": 64, "layers": 2, "heads": 1, "mlp_width": 128}
    json_text = (tiny_model / "tokenizer.json").read_text()
    vocab_size = Tokenizer.from_json(json_text).vocab_size
    config = dataclasses.replace(
        source,
        embed_dim=64,
        image=dataclasses.replace(source.image, image_size=32, **sizes),
        text=dataclasses.replace(source.text, context=40, vocab_size=vocab_size, **sizes),
    )
    torch.manual_seed(0)
    spec = Preprocess(size_px=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), mode="squash")
    return save_folder(tmp_path / "siglip", CLIP(config), tokenizer_json=json_text, preprocess=spec.to_hugging_face())


def test_sigmoid_model(sigmoid_model: Path, paths: list[Path]) -> None:
    """Each label is a judgement of its own, and texts are always as long as the context."""
    model = diptych.load(sigmoid_model, device="cpu", precision="float32")
    assert model.bias is not None
    assert model.bias == pytest.approx(-10)
    assert model.preprocessing.mode == "squash"
    assert model.tokenize(["a dog"]).ids.shape == (1, 40)
    tokens = model.tokenize(TEXTS[:1])
    np.testing.assert_allclose(
        model.embed_tokens([tokens.ids[0][tokens.mask[0]]]), model.embed_texts(TEXTS[:1]), atol=1e-6
    )
    together = model.embed_texts([*TEXTS, *["a dog"] * BATCH])
    np.testing.assert_allclose(together[:1], model.embed_texts(TEXTS[:1]), atol=1e-6)
    labels = ["circle", "star"]
    logits = model.scale * model.similarity(paths, [f"a {label}" for label in labels]) + model.bias
    result = model.classify(paths, labels, templates=["a {}"])
    np.testing.assert_allclose(result.probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-4)


def test_sigmoid_model_without_its_preprocessing(sigmoid_model: Path, tmp_path: Path) -> None:
    blind = changed(sigmoid_model, tmp_path / "blind", preprocessor_config=None)
    with pytest.raises(ValueError, match=r"blind lacks its preprocessor_config\.json.*Copy it"):
        diptych.load(blind, device="cpu")


def test_tokenizer_of_a_larger_vocabulary(tiny_model: Path, tmp_path: Path) -> None:
    content = json.loads((tiny_model / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {"a</w>": 9000, "spare": vocabulary["a</w>"]}
    strange = changed(tiny_model, tmp_path / "strange", tokenizer={"model": content["model"]})
    with pytest.raises(
        diptych.TokenizerError, match=r"strange: its tokenizer\.json gives ids up to 9000.*both from the same"
    ):
        diptych.load(strange, device="cpu").embed_texts(["a dog"])


def test_tokenizer_without_the_end_token(tiny_model: Path, tmp_path: Path) -> None:
    """Every sentence would be read at its first token, and have the same vector."""
    strange = changed(tiny_model, tmp_path / "endless", tokenizer={"post_processor": None})
    with pytest.raises(diptych.TokenizerError, match=r"ends no text with the id 5\d\d, at which its text tower pools"):
        diptych.load(strange, device="cpu").embed_texts(["a dog"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_device_that_is_not_here(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match=r"device 'cuda' was requested and PyTorch finds none; this machine has .*cpu"):
        diptych.load(tiny_model, device="cuda")


@pytest.mark.parametrize("device", ["nonsense", "cpu:first", ""])
def test_device_that_is_none(tiny_model: Path, device: str) -> None:
    with pytest.raises(ValueError, match=r"is not known; choose one of cuda, mps, cpu"):
        diptych.load(tiny_model, device=device)


def test_model_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(diptych.CheckpointError, match="nonsense is not a file, a folder or a hub id"):
        diptych.load("nonsense")
    monkeypatch.setattr("diptych.checkpoint.finding.BUNDLED", tmp_path / "bundled")
    with pytest.raises(diptych.CheckpointError, match="lacks the bundled model; pass a model folder or a hub id"):
        diptych.load()


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_who_pools_the_last_place_reads_the_padding(engine: str, tiny_model: Path, tmp_path: Path) -> None:
    """open_clip's `pool_type` "last" takes the last place of the whole context, whatever else is in the batch."""
    model = diptych.load(tiny_model, engine="pytorch", device="cpu")
    config = dataclasses.replace(model.config, text=dataclasses.replace(model.config.text, pool="last"))
    torch.manual_seed(0)
    network = CLIP(config).eval()
    settings = model.preprocessing.to_hugging_face()
    folder = save_folder(tmp_path / "last", network, tokenizer_json=model.tokenizer_json, preprocess=settings)
    loaded = diptych.load(folder, engine=engine, device="cpu", precision="float32")
    ids = np.full((1, config.text.context), config.text.pad_id)
    row = model.tokenize("a star").ids[0]
    ids[0, : len(row)] = row
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(network.encode_text(torch.from_numpy(ids))).numpy()
    np.testing.assert_allclose(loaded.embed_texts("a star"), wanted, atol=1e-5)
    together = loaded.embed_texts(["a star", "a green cat next to a grey bell"])
    np.testing.assert_allclose(together[:1], wanted, atol=1e-5)
