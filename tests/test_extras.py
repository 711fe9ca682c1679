"""What an extra brings is asked for before the work, not after it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from diptych.cli import FAILED
from diptych.errors import MissingExtraError
from diptych.extras import require
from diptych.scoring.probe import CentredFeatures
from tests.conftest import Cli


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require("nothing", "torch", "pyarrow")
    for name in ("onnx", "onnxruntime", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"^this needs onnx and pyarrow, .*'diptych\[convert,data\]'$"):
        require("this", "torch", "onnx", "pyarrow")
    for name in ("torch", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"'diptych\[train\]'$"):  # which brings the other
        require("this", "torch", "matplotlib")
    with pytest.raises(MissingExtraError, match=r"'diptych\[convert\]'$"):
        require("this", "torch", "onnx")


def test_a_probe_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"a linear probe needs scipy, .*'diptych\[probe\]'"):
        CentredFeatures(np.eye(2, dtype=np.float32), np.arange(2))


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [
        ("onnx", "convert bundled {out} --to onnx", "convert"),
        ("onnxruntime", "convert bundled {out} --to onnx", "convert"),
        ("nncf", "convert bundled {out} --to openvino --precision int8 --calibrate {pictures}", "convert"),
        ("pyarrow", "embed {pictures} {out}", "data"),
        ("tensorboardX", "train --data {pictures} --out {out}", "train"),
        ("torch", "data inspect {pictures}", "train"),
        ("matplotlib", "compare {pictures} cat --plot {out}", "plots"),
        ("matplotlib", "data inspect {pictures} --plot {out}", "plots"),
        ("scipy", "probe {pictures}", "probe"),
    ],
)
def test_said_before_the_work(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, pictures: Path, tmp_path: Path, missing: str, command: str, extra: str
) -> None:
    """No picture is opened, and nothing is written."""
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr("diptych.media.images.open_image", lambda *arguments, **options: pytest.fail("the work began"))
    said = cli(*(word.format(out=tmp_path / "out", pictures=pictures) for word in command.split()))
    assert said.code == FAILED
    assert f"{missing}, which is not installed: pip install 'diptych[{extra}]'" in said.err
    assert not (tmp_path / "out").exists()
