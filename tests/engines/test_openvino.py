"""The OpenVINO engine computes what the networks compute, without PyTorch."""

import gc
import itertools
import json
import shutil
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import diptych
from diptych.checkpoint import save_folder
from diptych.engines import EngineName, choose_engine
from diptych.engines.openvino import OpenVINOEngine
from diptych.engines.pytorch import PyTorchEngine
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, EfficientNetConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.nets.presets import preset
from diptych.storage.user import compiled_cache

pytestmark = pytest.mark.precision

TEXT = TextConfig(16, 100, 32, 2, 2, 64, end_id=99)
VIT = ViTConfig(32, 8, 32, 2, 2, 64)
SIGLIP_TEXT = replace(TEXT, pool="last", causal=False, activation="gelu_tanh", proj_bias=True)
CONFIGS = {
    "class token, highest id": CLIPConfig(24, VIT, TEXT),
    "quick gelu, first end token": CLIPConfig(
        24, replace(VIT, activation="quick_gelu"), replace(TEXT, activation="quick_gelu", pool="end", end_id=7)
    ),
    "mean, no norm before": CLIPConfig(24, replace(VIT, pool="mean", norm_pre=False), TEXT),
    "map head, bidirectional": CLIPConfig(
        32,
        replace(VIT, pool="map", norm_pre=False, patch_bias=True, activation="gelu_tanh", norm_eps=1e-6),
        SIGLIP_TEXT,
        "sigmoid",
    ),
    "patches that leave an edge": CLIPConfig(24, replace(VIT, image_size=30), TEXT),
    "resnet": CLIPConfig(24, ResNetConfig(64, (2, 1, 1, 1), 8, heads=4), TEXT),
    "resnet with an odd map": CLIPConfig(24, ResNetConfig(96, (1, 1, 2, 1), 8, heads=4), TEXT),
    "resnet with a finer map": CLIPConfig(24, ResNetConfig(64, (1, 1, 1, 2), 8, heads=4, stride=16), TEXT),
    "efficientnet": CLIPConfig(24, EfficientNetConfig(64, 0.5, 0.5, 32, 4, 16, 8), TEXT),
    "efficientnet with classes": CLIPConfig(24, EfficientNetConfig(64, 0.5, 0.5, 32, 4, 16, 8, 6), TEXT),
    "efficientnet of odd sizes": CLIPConfig(24, EfficientNetConfig(75, 0.25, 1.0, 24, 3, 16, 8), TEXT),
    "efficientnet, linear alone": CLIPConfig(24, EfficientNetConfig(40, 0.25, 0.5, 16, 1, 0, 0), TEXT),
}
BERT = replace(TEXT, pool="mean", causal=False, norm_position="post", norm_eps=1e-12, end_id=9)
CONFIGS |= {
    "mean of the tokens, norms after": CLIPConfig(24, VIT, BERT),
    "mean of the tokens, norms before": CLIPConfig(24, VIT, replace(BERT, norm_position="pre", proj_bias=True)),
    "norms after, first end token": CLIPConfig(24, VIT, replace(TEXT, pool="end", end_id=7, norm_position="post")),
}
IDS = np.array([[98, 5, 7, 6, 99, 0, 0], [98, 99, 7, 7, 3, 2, 1], [98, 1, 2, 3, 4, 7, 99]])


def network(config: CLIPConfig) -> CLIP:
    """Random weights; batch norm's statistics, all biases and paths that start at zero are no zeros or ones either."""
    torch.manual_seed(0)
    made = CLIP(config).eval()
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape) + 0.5 if "var" in name else torch.randn(tensor.shape))
            elif tensor.ndim > 1 and not tensor.any():
                tensor.normal_(0, 0.2)
    return made


def engines(config: CLIPConfig) -> tuple[OpenVINOEngine, PyTorchEngine]:
    made, spec = network(config), Preprocess(config.image.image_size)
    arrays = {name: tensor.numpy() for name, tensor in made.state_dict().items()}
    ours = OpenVINOEngine.of_arrays(config, arrays, spec, source="here", precision="float32")
    return ours, PyTorchEngine(made, spec, torch.device("cpu"))


@pytest.mark.parametrize("name", CONFIGS)
def test_both_engines_agree(name: str) -> None:
    config = CONFIGS[name]
    ours, theirs = engines(config)
    size = config.image.image_size
    pixels = np.random.default_rng(0).integers(256, size=(3, size, size, 3), dtype=np.uint8)
    np.testing.assert_allclose(ours.encode_images(pixels), theirs.encode_images(pixels), atol=2e-5)
    seen = ours.encode_patches(pixels)
    assert seen.patches.shape == (3, config.image.grid**2, config.embed_dim)
    np.testing.assert_allclose(seen.patches, theirs.encode_patches(pixels).patches, atol=2e-5)
    for engine in (ours, theirs):
        np.testing.assert_allclose(engine.encode_patches(pixels).images, ours.encode_images(pixels), atol=2e-5)
    for ids in (IDS, IDS[:1, :5]):
        np.testing.assert_allclose(ours.encode_texts(ids), theirs.encode_texts(ids), atol=2e-5)


def test_threads_do_not_disturb_each_other() -> None:
    ours, _ = engines(CONFIGS["resnet"])
    rng = np.random.default_rng(0)
    batches = [rng.integers(256, size=(n, 64, 64, 3), dtype=np.uint8) for n in (1, 2, 3, 4)]
    alone = [ours.encode_images(batch) for batch in batches]
    found: dict[int, list[np.ndarray]] = {}

    def run(index: int) -> None:
        found[index] = [ours.encode_images(batches[index]) for _ in range(10)]

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, vectors in found.items():
        for each in vectors:
            np.testing.assert_allclose(each, alone[index], atol=1e-5)


FORMS = {"ours": "resnet-tiny", "Hugging Face's": "vit-tiny"}


@pytest.mark.parametrize(
    ("form", "dtype"),
    [*itertools.product(FORMS, (torch.float32, torch.float16)), ("Hugging Face's", torch.bfloat16)],
)
def test_a_folder_runs_without_pytorch(form: str, dtype: torch.dtype, tiny_model: Path, tmp_path: Path) -> None:
    """Also what bfloat16 weights, which numpy cannot hold, want is PyTorch, and is read by it."""
    config = preset(FORMS[form])
    tokenizer_json = (tiny_model / "tokenizer.json").read_text(encoding="utf-8")
    config = replace(config, text=replace(config.text, vocab_size=600, end_id=599))
    spec = Preprocess(config.image.image_size).to_hugging_face()
    folder = save_folder(
        tmp_path / "model", network(config), tokenizer_json=tokenizer_json, preprocess=spec, dtype=dtype
    )
    code = (
        "import sys, diptych, numpy as np\n"
        f"model = diptych.load({str(folder)!r}, precision='float32')\n"
        "size = model.preprocessing.size_px\n"
        "pixels = np.random.default_rng(0).integers(256, size=(2, size, size, 3), dtype=np.uint8)\n"
        "texts = model.embed_texts(['a red star', 'a blue fish on a cup'])\n"
        f"np.savez({str(tmp_path / 'out.npz')!r}, pixels=pixels, images=model.embed_pixels(pixels), texts=texts)\n"
        "print(model.fingerprint, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    theirs = diptych.load(folder, engine="pytorch")
    said = np.load(tmp_path / "out.npz")
    assert done.stdout.split() == [theirs.fingerprint, str(dtype == torch.bfloat16)]
    np.testing.assert_allclose(said["images"], theirs.embed_pixels(said["pixels"]), atol=2e-5)
    np.testing.assert_allclose(said["texts"], theirs.embed_texts(["a red star", "a blue fish on a cup"]), atol=2e-5)


def test_the_fingerprint_names_the_model_and_not_its_form(tiny_model: Path, tmp_path: Path) -> None:
    model = diptych.load(tiny_model)
    theirs = diptych.convert(tiny_model, tmp_path / "theirs", to="open_clip")
    assert (
        diptych.load(theirs).fingerprint == model.fingerprint == diptych.load(tiny_model, engine="pytorch").fingerprint
    )
    with torch.no_grad():
        model.network.text.transformer.blocks[1].mlp.fc.weight += 0.01  # as any training does
    assert diptych.load(model.save(tmp_path / "trained")).fingerprint != diptych.load(tiny_model).fingerprint


def test_the_network_is_there_when_asked_for(tiny_model: Path) -> None:
    model = diptych.load(tiny_model, engine="openvino")
    theirs = diptych.load(tiny_model, engine="pytorch").network.state_dict()
    mine = model.network.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_engines_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.engines.has_gpu", lambda: False)
    assert choose_engine(None, None) == choose_engine(None, "cpu") == "openvino"
    assert choose_engine(None, "cuda") == choose_engine("pytorch", None) == "pytorch"
    monkeypatch.setattr("diptych.engines.has_gpu", lambda: True)
    assert choose_engine(None, None) == "pytorch"
    assert choose_engine(None, "cpu") == "openvino"
    for engine, device, said in (
        ("onnx", None, "choose openvino or pytorch"),
        ("openvino", "cuda", "runs on CPUs"),
    ):
        with pytest.raises(ValueError, match=said):
            choose_engine(engine, device)  # type: ignore[arg-type]


def test_what_is_not_installed_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.engines.is_installed", lambda engine: engine == "openvino")
    with pytest.raises(ValueError, match=r"device 'cuda' needs torch.*pip install 'diptych\[train\]'"):
        choose_engine(None, "cuda")
    monkeypatch.setattr("diptych.engines.is_installed", lambda engine: engine == "pytorch")
    assert choose_engine(None, None) == "pytorch"


def test_a_precision_that_is_not_known_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="choose one of auto, float32, bfloat16"):
        diptych.load(tiny_model, engine="openvino", precision="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_a_model_that_is_dropped_is_gone_at_once(tiny_model: Path, engine: EngineName) -> None:
    """Not when its rings are next collected: a program that opens one model after another would hold several."""
    model = diptych.load(tiny_model, engine=engine, device="cpu")
    model.classify([np.zeros((32, 32, 3), np.uint8)], ["a dog", "a cat"], patches=True)
    model.embed_images([np.zeros((32, 32, 3), np.uint8)])
    seen = weakref.ref(model.engine)
    gc.collect()
    gc.disable()
    try:
        del model
        assert seen() is None
    finally:
        gc.enable()


def test_a_compiled_text_tower_is_kept(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = diptych.load(tiny_model, engine="openvino").embed_texts(["a red star"])
    (kept,) = (tmp_path / "diptych" / "compiled").iterdir()
    written = kept.read_bytes()
    monkeypatch.setattr("diptych.engines.graph.text_graph", None)  # what is kept needs no graph
    again = diptych.load(tiny_model, engine="openvino").embed_texts(["a red star"])
    np.testing.assert_array_equal(first, again)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for damaged in (written[: len(written) // 2], b"", b"noise" * 1000):
        kept.write_bytes(damaged)
        np.testing.assert_array_equal(diptych.load(tiny_model, engine="openvino").embed_texts(["a red star"]), first)
        assert compiled_cache.read(kept.name) is not None


@pytest.mark.parametrize("towers", [set(), {"image", "patches"}])
def test_image_towers_are_kept_where_that_is_wanted(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, towers: set[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    wanted = diptych.load(tiny_model, engine="openvino").embed_pixels(pixels)
    assert not list(tmp_path.rglob("compiled/*"))
    for _ in range(2):
        model = diptych.load(tiny_model, engine="openvino")
        model.engine.kept_towers |= towers
        for _ in range(3):  # after the first, what was copied is let go
            np.testing.assert_array_equal(model.embed_pixels(pixels), wanted)
            np.testing.assert_array_equal(model.engine.encode_patches(pixels).images, wanted)
        assert len(list(tmp_path.rglob("compiled/*"))) == len(towers)


def test_what_was_compiled_of_other_weights_is_not_taken(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = diptych.load(tiny_model, precision="float32")
    before = model.embed_texts(["a red star"])
    folder = model.save(tmp_path / "model")
    np.testing.assert_allclose(diptych.load(folder, precision="float32").embed_texts(["a red star"]), before, atol=1e-6)
    with torch.no_grad():
        model.network.text.proj.weight.mul_(-1)
    model.save(folder)
    np.testing.assert_allclose(
        diptych.load(folder, precision="float32").embed_texts(["a red star"]), -before, atol=1e-6
    )


def test_what_was_compiled_under_other_settings_is_not_taken(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights stay as they are, and config.json says something else of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    before = diptych.load(folder, engine="openvino", precision="float32").embed_texts(["a red star"])
    said = json.loads((folder / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        said[tower]["hidden_act"] = "quick_gelu"
    (folder / "config.json").write_text(json.dumps(said))
    wanted = diptych.load(folder, engine="pytorch").embed_texts(["a red star"])
    assert np.abs(wanted - before).max() > 1e-4
    np.testing.assert_allclose(
        diptych.load(folder, engine="openvino", precision="float32").embed_texts(["a red star"]), wanted, atol=1e-5
    )


def test_a_user_without_a_home(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container's, whose number no passwd file knows."""
    pwd = pytest.importorskip("pwd")  # Windows has none

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert diptych.load(tiny_model, engine="openvino").embed_texts(["a red star"]).shape == (1, 64)
    assert not any(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_costs_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "diptych").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert diptych.load(tiny_model, engine="openvino").embed_texts(["a red star"]).shape == (1, 64)


def test_a_signal_after_many_models_is_only_a_signal(tiny_model: Path) -> None:
    """Ctrl-C must interrupt, and not end, a process that has opened and closed models."""
    code = (
        "import gc, signal, diptych\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "for _ in range(4):\n"
        f"    model = diptych.load({str(tiny_model)!r}, engine='openvino'); model.embed_texts(['a star'])\n"
        "del model; gc.collect()\n"
        "try:\n    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
