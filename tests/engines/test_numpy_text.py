"""The text tower in NumPy computes what the network computes, and serves a command's few texts without OpenVINO."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import diptych
from diptych.checkpoint import save_folder
from diptych.checkpoint.arrays import read_arrays
from diptych.checkpoint.finding import find
from diptych.engines import NUMPY_CALLS, openvino
from diptych.engines.numpy_towers.text import NumpyText
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, TextConfig, ViTConfig

TEXT = TextConfig(16, 100, 32, 2, 2, 64, end_id=99)
TEXTS = {
    "highest id": TEXT,
    "first end token, quick gelu": replace(TEXT, pool="end", end_id=7, activation="quick_gelu"),
    "last position, bidirectional": replace(
        TEXT, pool="last", causal=False, activation="gelu_tanh", proj_bias=True, norm_eps=1e-6
    ),
    "mean": replace(TEXT, pool="mean", causal=False, pad_id=0),
    "mean, norms after": replace(TEXT, pool="mean", causal=False, pad_id=0, norm_position="post", proj_bias=True),
    "end token, norms after": replace(TEXT, pool="end", end_id=7, norm_position="post"),
}
IDS = np.array([[98, 5, 7, 6, 99, 0, 0], [98, 99, 7, 7, 3, 2, 1], [98, 1, 2, 3, 4, 7, 99], [0, 7, 0, 0, 0, 0, 0]])


def network(text: TextConfig) -> CLIP:
    """Random weights, biases and norms too."""
    torch.manual_seed(0)
    made = CLIP(CLIPConfig(24, ViTConfig(32, 16, 32, 1, 2, 64), text)).eval()
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    return made


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
def test_it_computes_what_the_network_computes(text: TextConfig, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = save_folder(
        tmp_path / "it", network(text), tokenizer_json=None, preprocess=Preprocess(32).to_hugging_face(), dtype=dtype
    )
    engine = diptych.load(folder, engine="pytorch", device="cpu").engine
    found = read_arrays(find(folder))
    assert found
    features = NumpyText(text, found[1])(IDS)
    assert features.dtype == np.float32
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, engine.encode_texts(IDS), atol=2e-6)


def test_a_search_by_text_imports_neither_openvino_nor_torch(indexed: Path) -> None:
    script = (
        "import sys; from diptych.cli import run; code = run(['search', 'a red star', sys.argv[1]]);"
        "print(code, sorted({'openvino', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(indexed)], capture_output=True, text=True)
    assert done.stdout.endswith("0 []\n"), done.stderr


def test_many_texts_or_many_calls_open_openvino(tiny_model: Path) -> None:
    model = diptych.load(tiny_model, engine="openvino", precision="float32")
    model.engine.numpy_calls = NUMPY_CALLS
    tower = model.engine._towers["text"]  # type: ignore[attr-defined]
    first = model.embed_texts(["a red star"])
    assert not tower.is_open
    model.embed_texts(["a red star and a blue square"] * openvino.NUMPY_TOKENS)
    assert tower.is_open
    np.testing.assert_allclose(model.embed_texts(["a red star"]), first, atol=2e-6)
    other = diptych.load(tiny_model, engine="openvino")
    other.engine.numpy_calls = NUMPY_CALLS
    for _ in range(NUMPY_CALLS):
        other.embed_texts(["a red star"])
    assert not other.engine._towers["text"].is_open  # type: ignore[attr-defined]
    for _ in range(2):
        other.embed_texts(["a red star"])
    assert other.engine._towers["text"].is_open  # type: ignore[attr-defined]


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    broken = network(TEXT)
    with torch.no_grad():
        broken.text.token.weight[5, 0] = torch.nan
    folder = save_folder(
        tmp_path / "it", broken, tokenizer_json=None, preprocess=Preprocess(32).to_hugging_face(), dtype=torch.float32
    )
    model = diptych.load(folder, engine="openvino")
    model.engine.numpy_calls = NUMPY_CALLS
    with pytest.raises(diptych.CheckpointError, match=r"(text\.token|token_embedding).* has NaN or infinity"):
        model.engine.encode_texts(IDS)
