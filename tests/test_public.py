"""What a user holds: public names, copies of models, devices by any name, pictures as numbers, labels with synonyms."""

import base64
import copy
import importlib
import inspect
import io
import pickle
import pkgutil
import typing
from datetime import date, datetime
from pathlib import Path
from urllib.request import pathname2url

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import BaseEstimator, clone

import diptych
from diptych.embedder import Embedder
from diptych.engines import device_name
from diptych.errors import DiptychError
from diptych.media.pixels.arrays import picture_of

HERE = torch.device("cpu")
# Each becomes one of ours, or a Failure, before anybody sees it.
# Raised and caught within one room; no caller sees them
INNER = {
    "UnreadableFileError", "NotText", "NotRegularFileError", "NeedsPackage", "OutsideRootError", "RequestProblem",
    "Undelivered", "NotPublicError", "PictureRefused",
}  # fmt: skip


@pytest.fixture(scope="module", params=["openvino", "pytorch"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> Embedder:
    return diptych.load(tiny_model, engine=request.param, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def picture(pictures: Path) -> Image.Image:
    return Image.open(pictures / "scene-0.png").convert("RGB")


# --- names


def test_every_public_name_is_there() -> None:
    assert all(getattr(diptych, name) is not None for name in diptych.__all__)
    assert set(diptych.__all__) <= set(dir(diptych))


def test_every_error_is_one_of_ours() -> None:
    for module in pkgutil.walk_packages(diptych.__path__, "diptych."):
        if module.name.endswith("__main__"):
            continue
        for name, kind in vars(importlib.import_module(module.name)).items():
            is_ours = inspect.isclass(kind) and kind.__module__ == module.name and issubclass(kind, Exception)
            if is_ours and not name.startswith("_") and name not in INNER:
                assert issubclass(kind, DiptychError), f"{module.name}.{name}"


@pytest.mark.parametrize("name", [name for name in diptych.__all__ if name != "__version__"])
def test_public_signatures_say_what_they_take(name: str) -> None:
    thing = getattr(diptych, name)
    public = vars(thing).items() if inspect.isclass(thing) else [(name, thing)]
    for method, function in public:
        function = getattr(function, "__func__", function)
        if inspect.isfunction(function) and not method.startswith("_") and method != "recipe":  # TrainConfig's fields
            kinds = [each.kind for each in inspect.signature(function).parameters.values()]
            assert inspect.Parameter.VAR_KEYWORD not in kinds, f"{name}.{method}"


def test_what_a_user_holds_has_a_public_name(model: Embedder, pictures: Path, tmp_path: Path) -> None:
    config = diptych.recipe("laptop", data=("x",), out="y")
    query = diptych.Query("a star")
    found = model.locate(pictures / "scene-0.png", "a star", threshold=0)
    with diptych.open_index(pictures, index=tmp_path / "index", model=model, exclude=["below"]) as index:
        held = [
            index,
            index.update(),
            index.counts(),
            index.rules,
            *(results := [index.search(query)]),
            *results[0].hits,
        ]
    held += [config, config.augmentation, query, query.terms[0], found, *found.boxes[:1], model, model.config]
    held += [model.preprocessing, model.tokenize("a star"), model.try_embed_images([]), model.classify([], ["a"])]
    for each in held:
        assert getattr(diptych, type(each).__name__) is type(each)
    hints = typing.get_type_hints(diptych.TrainResult)
    for name in ("retrieval", "forgetting"):
        assert {getattr(diptych, kind.__name__) for kind in typing.get_args(hints[name]) if kind is not type(None)}


# --- devices


@pytest.mark.parametrize(
    ("device", "name"),
    [("CPU", "cpu"), (" cpu ", "cpu"), (HERE, "cpu"), ("auto", None), (None, None), ("Cuda:0", "cuda:0"), ("", "")],
)
def test_devices_by_any_name(device: object, name: str | None) -> None:
    assert device_name(device) == name


def test_a_model_takes_a_device_by_any_name(tiny_model: Path) -> None:
    for device in (HERE, "CPU", "auto"):
        assert "cpu" in diptych.load(tiny_model, device=device).engine.describe().lower()


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tiny_model: Path) -> None:
    with pytest.raises(diptych.ArgumentError, match="was requested and PyTorch finds none; this machine has cpu"):
        diptych.load(tiny_model, device="gpu")


# --- copies


class Estimator(BaseEstimator):
    """As scikit-learn's users wrap a model."""

    def __init__(self, model: Embedder | None = None):
        self.model = model


def test_a_model_is_copied_pickled_and_cloned(model: Embedder) -> None:
    wanted = model.embed_texts(["a red star"])
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), clone(Estimator(model)).model):
        assert again is not model
        assert again.engine.name == model.engine.name
        assert again.fingerprint == model.fingerprint
        np.testing.assert_allclose(again.embed_texts(["a red star"]), wanted, atol=1e-6)


def test_what_was_trained_on_is_copied_as_it_is(tiny_model: Path) -> None:
    model = diptych.load(tiny_model, engine="pytorch", device="cpu")
    with torch.no_grad():
        model.network.text.proj.weight.mul_(torch.linspace(0.5, 1.5, len(model.network.text.proj.weight))[:, None])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.embed_texts(["a red star"]), model.embed_texts(["a red star"]), atol=1e-6)


def test_an_index_is_copied(pictures: Path, tiny_model: Path, tmp_path: Path) -> None:
    with diptych.open_index(pictures, model=str(tiny_model), index=tmp_path / "index", exclude=["below"]) as index:
        index.update()
        again = pickle.loads(pickle.dumps(index))
        with again:
            assert again.rules == index.rules
            one, other = (each.search("a star").hits for each in (again, index))
            assert [hit.path for hit in one] == [hit.path for hit in other]


# --- pictures as numbers


def test_arrays_and_tensors_are_pictures(model: Embedder, picture: Image.Image) -> None:
    pixels = np.asarray(picture)
    wanted = model.embed_images([picture])
    tensor = torch.from_numpy(pixels.copy())
    many = [pixels, pixels / 255, tensor, tensor.permute(2, 0, 1), tensor.permute(2, 0, 1) / 255, tensor / 255.0]
    np.testing.assert_allclose(model.embed_images(many), np.repeat(wanted, len(many), axis=0), atol=1e-6)
    stacked = torch.stack([tensor.permute(2, 0, 1)] * 2)
    np.testing.assert_allclose(model.embed_images(stacked), np.repeat(wanted, 2, axis=0), atol=1e-6)
    np.testing.assert_array_equal(model.embed_images(tensor.permute(2, 0, 1)), wanted)


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_colours_may_come_first_and_with_alpha(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    for count, mode in [(1, "L"), (3, "RGB"), (4, "RGBA")]:
        colours = pixels[:, :, :count]
        for values in (colours, np.moveaxis(colours, -1, 0), *((colours / 255,) if count > 1 else ())):
            picture = picture_of(values if kind == "array" else torch.from_numpy(values.copy()))
            assert picture.mode == mode
            np.testing.assert_array_equal(np.asarray(picture).reshape(colours.shape), colours)


def test_numbers_that_are_no_picture_say_so() -> None:
    pixels = np.random.default_rng(0).random((4, 5, 3))
    for numbers, said in [
        (pixels * 255, "Its floats go from .* to 2.*as uint8"),
        (pixels - 0.5, "looks normalised already"),
        (np.where(pixels > 0.5, np.nan, pixels), "Its floats go from nan to nan"),
        (pixels[:, :, 0], "It holds float64"),
        (pixels.astype(np.int64), "It holds int64"),
        (np.zeros((6, 5, 2), np.uint8), r"Its shape is \(6, 5, 2\)"),
        (np.zeros((6, 5, 5), np.uint8), r"Its shape is \(6, 5, 5\)"),
        (torch.zeros(0, 3), r"Its shape is \(0, 3\)"),
    ]:
        with pytest.raises(ValueError, match=said):
            picture_of(numbers)


def test_a_picture_by_a_file_address(model: Embedder, pictures: Path) -> None:
    path = pictures / "scene-0.png"
    for address in (f"file://{pathname2url(str(path))}", f"file://localhost{pathname2url(str(path))}"):
        np.testing.assert_array_equal(model.embed_images(address), model.embed_images(path))
    with pytest.raises(diptych.ImageError, match="It is on elsewhere; only files of this machine are read"):
        model.embed_images("file://elsewhere/a.png")


# --- labels


def test_what_a_label_is_called_is_averaged(model: Embedder, pictures: Path) -> None:
    called = {"cat": ["cat", "kitty"], "star": "star"}
    vectors = model.embed_labels(called, templates=["a {}", "the {}"])
    cat = model.embed_texts(["a cat", "the cat", "a kitty", "the kitty"]).mean(axis=0)
    np.testing.assert_allclose(vectors[0], cat / np.linalg.norm(cat), atol=1e-6)
    np.testing.assert_allclose(vectors[1], model.embed_labels(["star"], templates=["a {}", "the {}"])[0], atol=1e-6)
    result = model.classify(pictures / "scene-0.png", called)
    assert result.labels == ("cat", "star")
    assert result.probabilities.shape == (1, 2)


# --- vectors where pictures and texts may come


def test_vectors_in_any_form(model: Embedder) -> None:
    rows = np.random.default_rng(0).normal(size=(2, model.dim)).astype(np.float32)
    texts = model.embed_texts(["a star", "a cat"])
    wanted = model.similarity(rows, texts)
    for form in (rows.astype(np.float64), torch.from_numpy(rows), list(rows), [torch.from_numpy(row) for row in rows]):
        np.testing.assert_allclose(model.similarity(form, ["a star", "a cat"]), wanted, atol=1e-5)
        assert model.classify(form, ["a star", "a cat"]).probabilities.shape == (2, 2)
    np.testing.assert_allclose(model.similarity(rows[1], texts[0]), wanted[1:, :1], atol=1e-6)
    assert diptych.Query(torch.from_numpy(rows[0])).terms[0].kind == "vector"


def test_pictures_in_floats_are_no_vectors(model: Embedder, picture: Image.Image) -> None:
    pixels = np.asarray(picture)
    wanted = model.classify(pixels, ["a star", "a cat"]).probabilities
    for form in (pixels / 255, (pixels / 255)[None], torch.from_numpy(pixels / 255)):
        np.testing.assert_allclose(model.classify(form, ["a star", "a cat"]).probabilities, wanted, atol=1e-5)
        assert model.similarity(form, "a star").shape == (1, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_none(model: Embedder, bad: float) -> None:
    rows = np.full((2, model.dim), bad, np.float32)
    for call in (model.similarity, model.classify):
        with pytest.raises(diptych.ArgumentError, match="contain NaN or infinity"):
            call(rows, ["a star"])
    with pytest.raises(diptych.ArgumentError, match="this model's vectors are"):
        model.similarity(rows[:, 1:], ["a star"])


# --- what is wrong is said by errors of ours


@pytest.mark.parametrize(
    "texts", [None, 3, [3], b"a", [b"a"], [None], Path("a"), [["a", "b"]], np.array([["a", "b"]]), "a\udc80"]
)
def test_what_is_no_text(model: Embedder, texts: object) -> None:
    for call in (model.embed_texts, model.tokenize, model.embed_labels):
        with pytest.raises(diptych.DiptychError, match=r"expected (a string|Unicode)|pass one item or a list"):
            call(texts)


def test_a_text_in_an_array_without_axes(model: Embedder) -> None:
    np.testing.assert_array_equal(model.embed_texts(np.array("a star")), model.embed_texts("a star"))
    with pytest.raises(diptych.ArgumentError, match="pass one item or a list"):
        model.embed_images(np.array(5))


def test_arguments_that_are_none_of_theirs(model: Embedder, picture: Image.Image, tmp_path: Path) -> None:
    for call in (
        lambda: model.classify(picture, ["a"], templates=["a"]),
        lambda: model.classify(picture, ["a"], templates=[3]),
        lambda: model.classify(picture, ["a"], templates=[]),
        lambda: model.locate(picture, "a", method="x"),
        lambda: model.locate(picture, "a", method="windows", scales=[2]),
        lambda: model.locate(picture, "a", threshold=float("nan")),
        lambda: model.embed_images(picture, decode="x"),
        lambda: model.embed_pixels([np.zeros((3, 3, 3), np.uint8)]),
        lambda: diptych.load(""),
        lambda: diptych.load(3),
        lambda: diptych.load("bundled", revision="main"),
        lambda: diptych.load(precision="float16", engine="openvino", device="cpu"),
        lambda: diptych.convert("bundled", tmp_path / "x", to="onx"),
        lambda: diptych.recipe("lap", data=("x",), out="y"),
        lambda: diptych.Filters(path=["*.png"]),
        lambda: diptych.Filters(since=2024),
        lambda: diptych.Filters(min_width="8"),
        lambda: diptych.Query(None),
        lambda: diptych.Query(["a", "b"]),
        lambda: diptych.examine(tmp_path),
    ):
        with pytest.raises(diptych.DiptychError):
            call()
    with pytest.raises(diptych.ArgumentError, match="hf, open_clip, openai, openvino, onnx"):
        diptych.convert("bundled", tmp_path / "x", to="onx")


def test_filters_take_dates_and_paths() -> None:
    filters = diptych.Filters(since=date(2024, 5, 1), until=datetime(2024, 5, 2, 3, 4, 5, 6), path=Path("a/b"))
    assert filters == diptych.Filters(since="2024-05-01", until="2024-05-02T03:04:05", path="a/b")


def test_a_finding_reads_well() -> None:
    finding = diptych.Finding("it is old", ["call ", diptych.Setting("reindex", True, "index.update")])
    assert str(finding) == "it is old: call index.update(reindex=True)"
    assert str(finding._replace(repaired=True)) == "it is old: repaired"


# --- queries and what notebooks show


def test_a_query_from_what_a_caller_has(picture: Image.Image) -> None:
    assert diptych.Query("a dog").terms == diptych.Query.text("a dog").terms
    assert [term.kind for term in (diptych.Query("a dog") - diptych.Query(picture)).terms] == ["text", "picture"]
    assert diptych.Query(np.ones(4, np.float32)).terms[0].kind == "vector"
    for sums in (diptych.Query("a") - "b", "a" - diptych.Query("b")):
        assert sums.terms == (diptych.Query("a") - diptych.Query("b")).terms
    assert ("a" + diptych.Query("b")).terms == (diptych.Query("a") + "b").terms
    assert diptych.Query(diptych.Query("a dog") * 2).terms[0].weight == 2


def test_a_heat_map_is_shown_as_a_picture(model: Embedder, picture: Image.Image) -> None:
    found = model.locate(picture, "<b>a star</b>")
    assert found._repr_png_().startswith(b"\x89PNG")
    page = found._repr_html_()
    assert "&lt;b&gt;a star" in page
    assert "<b>a star" not in page
    assert "region" in page
    assert Image.open(io.BytesIO(embedded(page))).size == found.image.size


def embedded(page: str) -> bytes:
    """The first picture of a page."""
    return base64.b64decode(page.partition("base64,")[2].partition('"')[0])


def test_what_was_found_is_shown_as_a_page(pictures: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "<b>x&amp;.png").write_bytes((pictures / "scene-0.png").read_bytes())
    with diptych.open_index(folder, model=str(tiny_model)) as index:
        index.update()
        page = index.search("a star")._repr_html_()
    assert "&lt;b&gt;x&amp;amp;.png" in page
    assert "<b>x" not in page
    assert "data:image/jpeg;base64," in page
    assert "1 item searched" in page


def test_a_classification_is_shown_as_a_table(model: Embedder, picture: Image.Image) -> None:
    page = model.classify(picture, ["<i>star</i>", "cup"])._repr_html_()
    assert "&lt;i&gt;star&lt;/i&gt; " in page
    assert "<i>" not in page
