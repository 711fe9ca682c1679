"""Weights are read from their files when they are asked for."""

import os
import shutil
from pathlib import Path

import numpy as np

from diptych.checkpoint.arrays import Arrays, read_arrays
from diptych.checkpoint.finding import find


def opened(folder: Path) -> Arrays:
    found = read_arrays(find(folder))
    assert found
    return found[1]


def test_what_is_let_go_is_read_again(tiny_model: Path) -> None:
    arrays = opened(tiny_model)
    before = arrays["text.proj.weight"]
    arrays.let_go()
    np.testing.assert_array_equal(arrays["text.proj.weight"], before)
    np.testing.assert_array_equal(arrays.first_row("text.proj.weight"), before[:1])


def test_a_file_that_was_replaced_or_deleted_stays_open_as_it_was(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (file,) = folder.glob("*.safetensors")
    arrays, before = opened(folder), opened(folder)["text.proj.weight"]
    other = tmp_path / "other"
    other.write_bytes(b"something else")
    os.replace(other, file)
    arrays.let_go()
    np.testing.assert_array_equal(arrays["text.proj.weight"], before)
    file.unlink()
    arrays.let_go()
    np.testing.assert_array_equal(arrays["text.proj.weight"], before)
