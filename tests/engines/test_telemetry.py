"""No library reports our use of it to its makers, or numbers the user in a file of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Every event of Python's own sockets, but for the questions that ask no other machine: urllib3 binds one here to see
# whether there is IPv6.
WATCH = """
import sys
LOCAL = {"socket.__new__", "socket.gethostname"}
seen = []
def hear(event, told):
    is_here = event in LOCAL or (event == "socket.bind" and told[1][0] in ("127.0.0.1", "::1"))
    if event.startswith("socket.") and not is_here:
        seen.append(event)
sys.addaudithook(hear)
"""
EIGHT_BITS = """
import numpy as np
from diptych.engines.openvino_runtime import openvino
from openvino import opset13 as ops
from diptych.engines.quantization import quantised
rows = ops.parameter([2, 8], np.float32)
product = ops.matmul(rows, ops.constant(np.ones((8, 8), np.float32)), False, False)
quantised(openvino.Model([product], [rows]), [np.ones((2, 8), np.float32)], "plain")
"""
ONNX = """
import pathlib
import numpy as np
import onnx
from diptych.engines.onnx import FILES, open_onnx
folder = pathlib.Path(sys.argv[1])
for name, file in FILES.items():
    given, told = (onnx.helper.make_tensor_value_info(one, onnx.TensorProto.FLOAT, [1]) for one in (name, "vectors"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", [name], ["vectors"])], "tower", [given], [told])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), folder / file)
assert open_onnx(folder)[0](np.ones(1, np.float32)) == -1
"""
RUN = """
import json
from diptych.cli import run
assert [run(words.split()) for words in json.loads(sys.argv[1])] == [0] * len(json.loads(sys.argv[1]))
"""
TOLD = """
import json
print(json.dumps(seen))
"""


def told(home: Path, code: str, *arguments: str) -> list[str]:
    """What a process whose home that is asked of sockets. It does not take itself for one of CI's, where some libraries
    are silent anyway, and has no folders but its home."""
    home.mkdir()
    inherited = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("XDG_")}
    done = subprocess.run(
        [sys.executable, "-c", WATCH + code + TOLD, *arguments],
        cwd=home, env=inherited | {"HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def places(home: Path) -> set[str]:
    """The folders of its files, as far as they say whose they are."""
    return {"/".join(path.relative_to(home).parts[:2]) for path in home.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("code", [EIGHT_BITS, ONNX], ids=["8 bits", "onnx"])
def test_what_runs_models_keeps_to_itself(code: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert told(home, code, str(tmp_path)) == []
    assert places(home) == set()


def test_commands_write_where_they_should(pictures: Path, shards: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Where they are told to, and in the user's own cache and configuration of diptych; test_base_install.py has what
    needs no extra."""
    home, photos = tmp_path / "home", tmp_path / "photos"
    photos.mkdir()
    (photos / "one.png").write_bytes(min(pictures.glob("*.png")).read_bytes())
    train = f"train --data {shards} --model vit-tiny --epochs 1 --batch-size 48 --workers 0 --out {tmp_path}/run"
    commands = [
        f"embed {photos} {tmp_path}/vectors --model {tiny_model}",
        f"{train} --device cpu",
    ]
    assert told(home, RUN, json.dumps(commands)) == []
    assert places(home) <= {".cache/diptych", ".config/diptych"}
    assert {path.name for path in tmp_path.iterdir()} == {"home", "photos", "run", "vectors"}
    assert {path.name for path in photos.iterdir()} == {"one.png"}


def test_the_program_asks_not_to_be_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who allows it is left his choice."""
    from diptych import __main__

    for before, after in ((None, "1"), ("0", "0")):
        monkeypatch.delenv("DO_NOT_TRACK", raising=False)
        if before:
            monkeypatch.setenv("DO_NOT_TRACK", before)
        monkeypatch.setattr("diptych.cli.run", lambda arguments: 0)
        with pytest.raises(SystemExit):
            __main__.main()
        assert os.environ["DO_NOT_TRACK"] == after
        monkeypatch.undo()
