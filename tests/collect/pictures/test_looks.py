"""What was seen of pictures is kept on the disk as it was, and a full disk is said to be one."""

import errno
from pathlib import Path

import numpy as np
import pytest

from diptych.collect.pictures.looks import Look, _write_array


def drawn_look(pairs: int) -> Look:
    rng = np.random.default_rng(pairs)
    return Look(
        [f"00000.tar/{at}" for at in range(pairs)], [""] * pairs, np.arange(pairs), np.arange(pairs, dtype=np.uint64),
        np.zeros(pairs, int), ["agreement"], rng.random((pairs, 1)), rng.integers(0, 255, (pairs, 64, 64), np.uint8),
        rng.random((pairs, 8)).astype(np.float16),
    )  # fmt: skip


@pytest.mark.parametrize("pairs", [0, 1, 5])
def test_a_look_is_read_as_it_was_written(tmp_path: Path, pairs: int) -> None:
    look = drawn_look(pairs)
    look.save(tmp_path / "look")
    read = Look.load(tmp_path / "look")
    for name, value in look._asdict().items():
        np.testing.assert_array_equal(getattr(read, name), value)
    assert (read.greys.dtype, read.vectors.dtype) == (np.uint8, np.float16)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_known_as_one() -> None:
    with pytest.raises(OSError, match="space") as full, open("/dev/full", "wb") as file:
        _write_array(file, drawn_look(100).greys)
    assert full.value.errno == errno.ENOSPC
