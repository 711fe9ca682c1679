"""The recipe of the bundled model: what its parts promise, on tiny towers and texts."""

import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diptych.checkpoint import save_folder
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP, unit
from diptych.nets.config import CLIPConfig, EfficientNetConfig, TextConfig
from diptych.nets.efficientnet import EfficientNet

RECIPE = Path(__file__).parents[2] / "recipes" / "bundled"


@pytest.fixture(scope="module", autouse=True)
def recipe() -> None:
    sys.path.append(str(RECIPE))


@pytest.fixture(scope="module")
def tower() -> EfficientNet:
    torch.manual_seed(0)
    config = EfficientNetConfig(64, mlp_width=16, fine_width=16, feature_width=64, class_width=1000)
    tower = EfficientNet(config, 384)
    torch.nn.init.normal_(tower.classes.proj.weight)
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                torch.nn.init.uniform_(tensor, -0.5, 0.5)
    return tower.eval()


def test_lower_and_upper_blocks_are_the_tower(tower: EfficientNet) -> None:
    from towers import lower, upper

    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for block in (0, 1, 8, tower.config.fine_block + 1):
            fine, cells = upper(tower, lower(tower, pixels, block), block)
            expected = tower.maps(pixels)
            torch.testing.assert_close(cells, expected[1])
            torch.testing.assert_close(fine, expected[0])


def test_folded_batch_norms_compute_the_same_and_come_back(tower: EfficientNet) -> None:
    from copy import deepcopy

    from towers import fold, lower, unfolded, upper

    pixels, block = torch.randn(2, 3, 64, 64), 8
    folded = deepcopy(tower)
    fold(folded, block)
    back = deepcopy(tower)
    back.load_state_dict(unfolded(folded.state_dict(), tower, block))
    with torch.no_grad():
        expected = tower(pixels)
        cells = upper(folded, lower(folded, pixels, block), block)[1]
        torch.testing.assert_close(folded.vector(folded.pool(cells)), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(back(pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(40))
def test_a_slip_changes_one_letter_of_one_word(seed: int) -> None:
    from english import slip

    text = "a brown dog"
    changed = slip(text, random.Random(seed))
    assert changed.startswith("a b")
    assert changed.endswith(" dog")
    assert abs(len(changed) - len(text)) <= 1
    assert slip("a cat", random.Random(seed)) == "a cat"  # short words stay


def test_a_prototype_is_the_mean_of_its_class(tmp_path: Path) -> None:
    """Two classes of normal features with one covariance: the class layer of linear discriminant analysis leads back to
    the direction of their means."""
    from pictures import Pictures

    rng = np.random.default_rng(0)
    root = np.tril(rng.normal(size=(6, 6)) * 0.4) + np.eye(6)
    means = rng.normal(size=(2, 6))
    features = np.concatenate([means[at] + rng.normal(size=(4000, 6)) @ root.T for at in (0, 1)]).astype(np.float16)
    weight = torch.from_numpy(means @ np.linalg.inv(root @ root.T)).float()
    for name in ("train", "dev"):
        np.save(tmp_path / f"pooled-{name}.npy", features[None])
        (tmp_path / f"{name}.json").write_text('{"captions": []}')
        np.save(tmp_path / f"{name}.npy", features[None])
    pictures = Pictures(tmp_path, weight, torch.zeros(2), as_maps=False)
    shift = torch.from_numpy(means[0] - means.mean(0)).float()
    assert F.cosine_similarity(pictures.prototypes[0], shift, dim=0) > 0.9
    torch.testing.assert_close(pictures.prototypes[0], -pictures.prototypes[1], rtol=1e-3, atol=1e-3)


def test_a_model_folder_is_a_stage_again(tower: EfficientNet, tmp_path: Path) -> None:
    from towers import Head, UpperTower, lower, of_tower, stage_of

    config = CLIPConfig(384, tower.config, TextConfig(48, 600, 64, 1, 1, 128))
    network = CLIP(config)
    network.image.load_state_dict(tower.state_dict())
    folder = save_folder(tmp_path / "model", network, tokenizer_json=None, preprocess=Preprocess(64).to_hugging_face())
    stage = stage_of(folder, 8)
    head = Head(torch.zeros(64), torch.ones(64), 384, 16)
    upper = UpperTower(EfficientNet(tower.config, 384).eval(), 8, head)
    upper.load_state_dict(stage["image"])
    upper.eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        vectors, patches, answers = upper(lower(tower, pixels, 8), patches_from=0)
        expected, expected_patches = tower.with_patches(pixels)
        torch.testing.assert_close(vectors, unit(expected), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(patches, unit(expected_patches), rtol=1e-4, atol=1e-4)
        expected = tower.classes.fc(tower.pooled(pixels)).log_softmax(1)
        torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4)
    assert {of_tower(name) for name in stage["image"]} >= {"classes.fc.weight", "head.mean", "stem.weight"}
    assert stage["text"]["positions"].shape == (40, 64)
    assert set(stage["text"]) == set(network.text.state_dict())


def test_a_head_that_knows_the_classes_answers_as_the_released_layer() -> None:
    from towers import Head

    torch.manual_seed(0)
    head = Head(torch.zeros(8), torch.ones(8), 384, 4).eval()
    weight, bias, pooled = torch.randn(1000, 8), torch.randn(1000), torch.randn(3, 8)
    names = F.normalize(torch.randn(1000, 384), dim=1)
    head.know_classes(weight, bias, names)
    vectors, answers = head(pooled)
    expected = (pooled @ weight.T + bias).softmax(1)
    torch.testing.assert_close(answers.exp(), expected)
    mixed = head.raw(pooled) + 10 * expected @ (names - names.mean(0))
    torch.testing.assert_close(vectors, F.normalize(mixed, dim=1))


@pytest.mark.parametrize("seed", range(30))
def test_a_false_caption_names_what_is_not_there(seed: int) -> None:
    from pictures import falsified

    from diptych.scenes.scene import HELD_OUT

    random.seed(seed)
    phrases = {"red cup", "cup", "orange cat", "cat", "orange"}
    false = falsified("an orange cat and a red cup on the left.", phrases)
    found = re.fullmatch(r"(an?) (\w+ \w+) and (an?) (\w+ \w+) on the left\.", false)
    assert found, false
    things = {found[2], found[4]}
    assert len(things & phrases) == 1
    assert len(things - phrases) == 1
    for article, thing in ((found[1], found[2]), (found[3], found[4])):
        assert article == ("an" if thing[0] in "aeiou" else "a")
        assert tuple(thing.split()) not in HELD_OUT
    assert falsified("nothing that has a name", phrases) == ""


def test_colours_are_asked_of_a_kind_s_only_thing_and_never_of_what_is_not_drawn() -> None:
    from pictures import colour_questions, coloured, never_drawn

    from diptych.data.samples import Region
    from diptych.scenes.scene import COLOURS, HELD_OUT, KINDS

    said = (["red cup", "cup", "red", "blue ball", "green ball"], ["white fish", "fish", "white"])
    scenes = [[Region(phrase, None) for phrase in phrases] for phrases in said]
    kinds = [KINDS.index(kind) for kind in ("ball", "cup")]
    assert colour_questions(scenes, kinds) == [(0, kinds[1], COLOURS.index("red"))]
    texts = coloured(kinds)
    assert texts[len(COLOURS) + COLOURS.index("orange")] == "an orange cup"
    hidden = never_drawn(kinds)
    assert hidden.shape == (2, len(COLOURS))
    assert [(COLOURS[c], KINDS[kinds[k]]) in HELD_OUT for k, c in hidden.nonzero()] == [True] * int(hidden.sum())


def test_the_average_of_stages_is_weighted() -> None:
    from average import average

    one = {"image": {"x": torch.tensor([1.0, 3.0]), "steps": torch.tensor(7)}, "scale": torch.tensor(2.0)}
    other = {"image": {"x": torch.tensor([5.0, -1.0]), "steps": torch.tensor(9)}, "scale": torch.tensor(4.0)}
    mean = average([one, other], [3.0, 1.0])
    assert mean["image"]["x"].tolist() == [2.0, 2.0]
    assert mean["image"]["steps"] == 7
    assert mean["scale"] == 2.5
