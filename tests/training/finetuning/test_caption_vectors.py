"""Captions under a locked text tower: encoded once, and the same features."""

from pathlib import Path

import pytest
import torch

import diptych
from diptych.data.loading.augmentation import NONE
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.training.config import TrainConfig
from diptych.training.finetuning import caption_vectors
from diptych.training.finetuning.caption_vectors import CaptionVectors
from diptych.training.finetuning.freezing import lock_text
from diptych.training.step import OptimizerStep
from diptych.training.trainer import train


def state(folder: Path) -> dict[str, torch.Tensor]:
    return diptych.load(folder, device="cpu").network.state_dict()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> CLIP:
    """A locked text tower that counts the texts that it encodes, in `texts`."""
    torch.manual_seed(0)
    network = CLIP(preset("vit-tiny"))
    lock_text(network)
    network.train()
    encode, network.texts = network.encode_text, []
    monkeypatch.setattr(network, "encode_text", lambda ids: (network.texts.append(len(ids)), encode(ids))[1])
    return network


def tokens(network: CLIP, count: int) -> torch.Tensor:
    ids = torch.randint(1, 400, (count, 9), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = network.config.text.end_id
    return ids


def test_a_caption_is_encoded_once(network: CLIP) -> None:
    vectors, ids = CaptionVectors(network, None), tokens(network, 4)
    first = vectors(["a", "b", "a", "c"], ids[[0, 1, 0, 2]])
    second = vectors(["c", "d", "a"], ids[[2, 3, 0]])
    assert network.texts == [3, 1]
    torch.testing.assert_close(first, network.text(ids[[0, 1, 0, 2]]).detach())
    torch.testing.assert_close(second, network.text(ids[[2, 3, 0]]).detach())
    assert "encoded 4 of 7 captions" in str(vectors.summary())


def test_vectors_that_were_not_read_for_longest_are_dropped(network: CLIP) -> None:
    size = 4 * network.config.embed_dim
    vectors, ids = CaptionVectors(network, None, max_bytes=2 * size), tokens(network, 3)
    vectors(["a", "b"], ids[:2])
    vectors(["a", "c"], ids[[0, 2]])  # drops b
    assert vectors(["a", "c"], ids[[0, 2]]).shape == (2, network.config.embed_dim)
    assert network.texts == [2, 1]
    vectors(["b"], ids[1:2])
    assert network.texts == [2, 1, 1]


def test_captions_that_fit_in_no_memory_are_encoded_each_time(network: CLIP) -> None:
    vectors, ids = CaptionVectors(network, None, max_bytes=0), tokens(network, 2)
    for _ in range(2):
        torch.testing.assert_close(vectors(["a", "b"], ids), network.text(ids).detach())
    assert network.texts == [2, 2]


def test_a_locked_text_tower_trains_the_other_one_as_without_kept_vectors(
    shards: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str) -> dict[str, torch.Tensor]:
        config = TrainConfig(
            data=(str(shards),), out=str(tmp_path / name), init=str(tiny_model), lock_text=True, epochs=1,
            batch_size=32, captions_per_image=1, augmentation=NONE, precision="fp32", device="cpu", optimizer="adamw",
            lr=1e-4,
        )  # fmt: skip
        return state(train(config).folder)

    kept = run("kept")
    assert "the locked text tower encoded" in capsys.readouterr().err
    begin = OptimizerStep.__init__

    def without(step: OptimizerStep, *arguments) -> None:
        begin(step, *arguments)
        step.captions = None

    monkeypatch.setattr(OptimizerStep, "__init__", without)
    each_time, before = run("each"), state(tiny_model)
    assert max((kept[name] - each_time[name]).abs().max().item() for name in kept) < 1e-6
    assert all(kept[name].equal(before[name]) for name in kept if name.startswith("text."))
    assert not kept["image.patch.weight"].equal(before["image.patch.weight"])


def test_many_new_captions_are_encoded_in_parts(network: CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_vectors, "BATCH", 2)
    ids = tokens(network, 5)
    features = CaptionVectors(network, None)(["a", "b", "c", "d", "e"], ids)
    assert network.texts == [2, 2, 1]
    torch.testing.assert_close(features, network.text(ids).detach())
