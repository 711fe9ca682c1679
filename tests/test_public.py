"""What a user holds: public names, copies of models, devices by any name, pictures as numbers, labels with synonyms."""

import copy
import importlib
import inspect
import pickle
import pkgutil
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
from diptych.pictures.arrays import picture_of

HERE = torch.device("cpu")
# Each becomes one of ours, or a Failure, before anybody sees it.
INNER = {"Unreadable", "NotText", "NotRegular", "DownloadError", "NeedsPackage"}


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
    with pytest.raises(diptych.ArgumentError, match="was asked for and PyTorch sees none; here there is cpu"):
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


def test_numbers_that_are_no_picture_say_so() -> None:
    pixels = np.random.default_rng(0).random((4, 5, 3))
    for numbers, said in [
        (pixels * 255, "Its floats go from .* to 2.*as uint8"),
        (pixels - 0.5, "looks normalised already"),
        (np.where(pixels > 0.5, np.nan, pixels), "Its floats go from nan to nan"),
        (pixels[:, :, 0], "It holds float64"),
        (pixels.astype(np.int64), "It holds int64"),
        (np.zeros((4, 5, 4), np.uint8), r"Its shape is \(4, 5, 4\)"),
        (torch.zeros(0, 3), r"Its shape is \(0, 3\)"),
    ]:
        with pytest.raises(ValueError, match=said):
            picture_of(numbers)


def test_a_picture_by_a_file_address(model: Embedder, pictures: Path) -> None:
    path = pictures / "scene-0.png"
    for address in (f"file://{pathname2url(str(path))}", f"file://localhost{pathname2url(str(path))}"):
        np.testing.assert_array_equal(model.embed_images(address), model.embed_images(path))
    with pytest.raises(diptych.ImageError, match="names a file on elsewhere, and only this machine's are read"):
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


# --- queries and what notebooks show


def test_a_query_from_what_a_caller_has(picture: Image.Image) -> None:
    assert diptych.Query("a dog").terms == diptych.Query.text("a dog").terms
    assert [term.kind for term in (diptych.Query("a dog") - diptych.Query(picture)).terms] == ["text", "picture"]
    assert diptych.Query(np.ones(4, np.float32)).terms[0].kind == "vector"
    assert diptych.Query(diptych.Query("a dog") * 2).terms[0].weight == 2


def test_a_heat_map_is_shown_as_a_picture(model: Embedder, picture: Image.Image) -> None:
    assert model.locate(picture, "a star")._repr_png_().startswith(b"\x89PNG")


def test_what_was_found_is_shown_as_a_page(pictures: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "<b>x&amp;.png").write_bytes((pictures / "scene-0.png").read_bytes())
    with diptych.open_index(folder, model=str(tiny_model)) as index:
        index.update()
        page = index.search("a star")._repr_html_()
    assert "&lt;b&gt;x&amp;amp;.png" in page
    assert "<b>" not in page
    assert "data:image/jpeg;base64," in page
    assert "1 items searched" in page


def test_a_classification_is_shown_as_a_table(model: Embedder, picture: Image.Image) -> None:
    page = model.classify(picture, ["<i>star</i>", "cup"])._repr_html_()
    assert "&lt;i&gt;star&lt;/i&gt; " in page
    assert "<i>" not in page
