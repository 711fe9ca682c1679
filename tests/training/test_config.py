"""Settings of a run: from recipes, flags and files; unknown ones fail by name."""

import dataclasses
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from diptych.cli.train import parsed_settings
from diptych.data.loading.augmentation import Augmentation
from diptych.nets.presets import preset
from diptych.training.config import FROM_MODEL, TrainConfig, from_fields, parse_setting, schedule, to_json
from diptych.training.recipes import RECIPES, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_a_run(name: str) -> None:
    init = {"init": "some/model"} if name in ("finetune", "lora") else {}
    made = recipe(name, data=("pairs",), **init)
    preset(made.model)
    assert RECIPES[name].source
    assert from_fields(json.loads(to_json(made))) == made


def test_the_laptop_recipe_is_what_one_gets_without_asking() -> None:
    assert recipe("laptop", data=("x",)) == TrainConfig(data=("x",))


def test_openais_numbers() -> None:
    """Radford et al. 2021, tables 18 and 20."""
    made = recipe("openai", data=("pairs",))
    assert (made.batch_size, made.epochs, made.weight_decay, made.betas) == (32768, 32, 0.2, (0.9, 0.98))
    assert (made.lr, made.eps) == (5e-4, 1e-6)
    steps = 32 * 400e6 / 32768
    assert made.warmup * steps == pytest.approx(2000)
    assert made.lr * schedule(1000 / steps, made.warmup) == pytest.approx(2.5e-4)


def test_siglip_is_trained_by_its_loss_whatever_the_towers() -> None:
    assert recipe("siglip", data=("x",), model="vit-tiny").loss == "sigmoid"


def test_changes_win_over_the_recipe() -> None:
    assert recipe("finetune", data=("x",), init="m", lr=3.0).lr == 3.0


def test_unknown_names_are_named() -> None:
    with pytest.raises(ValueError, match="no recipe is called 'fine-tune'; did you mean finetune"):
        recipe("fine-tune", data=("x",))
    with pytest.raises(ValueError, match="learning_rat is no setting of a run"):
        from_fields({"data": ["x"], "learning_rat": 1})
    with pytest.raises(ValueError, match="batchsize is no setting of a run; did you mean batch_size"):
        recipe("laptop", data=("x",), batchsize=8)
    with pytest.raises(
        ValueError, match=r"augmentation\.flipp is no setting of a run; did you mean augmentation\.flip"
    ):
        from_fields({"data": ["x"], "augmentation": {"flipp": 1}})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("lr=0.5", ("lr", 0.5)),
        ("epochs=3", ("epochs", 3.0)),
        ("batch_size=8", ("batch_size", 8)),
        ("image_size=none", ("image_size", None)),
        ("image_size=64", ("image_size", 64)),
        ("betas=0.9,0.95", ("betas", (0.9, 0.95))),
        ("compile=yes", ("compile", True)),
        ("loss=sigmoid", ("loss", "sigmoid")),
        ("precision=fp32", ("precision", "fp32")),
        ("zero_shot=a,b", ("zero_shot", ("a", "b"))),
        ("augmentation.flip=0", ("augmentation.flip", 0.0)),
    ],
)
def test_settings_are_read_by_their_type(text: str, wanted: tuple) -> None:
    assert parse_setting(text) == wanted


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("lr=fast", "lr cannot be 'fast'; wanted float"),
        ("compile=maybe", "compile cannot be 'maybe'; wanted bool"),
        ("batchsize=8", "batchsize is no setting of a run; did you mean batch_size"),
        ("augmentation.flop=1", r"augmentation\.flop is no setting of a run; did you mean augmentation\.flip"),
        ("augmentation.turn=1", "there are crop_scale, drop_words, erase, flip"),
        ("quick=1", "there are accumulate, activation, allow_outside, augmentation"),
        ("lr", "'lr' sets nothing; wanted NAME=VALUE"),
        ("betas=0.9", "betas cannot be '0.9'; wanted"),
        ("augmentation=none", "set by its fields, such as augmentation.flip=0"),
    ],
)
def test_settings_that_do_not_fit_are_named(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        parse_setting(text)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"data": ()}, "data is"),
        ({"scenes": 1.0}, "scenes"),
        ({"batch_size": 1}, "batch_size"),
        ({"precision": "fp8"}, "fp8"),
        ({"minutes": 0}, "minutes is 0"),
        ({"drop_path": 1}, "drop_path is 1; wanted 0 or more and under 1"),
        ({"ema": 1.5}, "ema"),
        ({"warmup": 2}, "warmup"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
        ({"clip_norm": 0}, "clip_norm is 0"),
        ({"weights": (1.0, 2.0)}, "2 weights for 1 sources"),
        ({"weights": (0.0,)}, "wanted numbers over 0"),
        ({"wise_ft": 1.5, "init": "m"}, "wise_ft is 1.5"),
        ({"lora": 8}, "lora is for fine-tuning"),
        ({"shard": True}, "shard=True distributes matrices that muon needs whole"),
        ({"shard": True, "optimizer": "adamw", "precision": "fp16"}, "shard=True does not train in fp16"),
        ({"lock_image": True}, "lock_image is for fine-tuning"),
        ({"lock_text": True}, "lock_text is for fine-tuning"),
        ({"lock_trunk": True, "lock_image": True, "init": "m"}, "lock_image=True freezes the pooling that lock_trunk"),
        ({"lock_text": True, "lock_image": True, "init": "m"}, "leave nothing to train"),
        ({"views": 4, "init": "m"}, "views=4 are of pictures that a frozen tower encodes once"),
        ({"views": -1}, "views is -1; wanted 0 or more"),
        ({"zero_shot": ("classes",)}, "zero_shot is for fine-tuning"),
        ({"init": "m", "context": 77}, "context is that of the model to start from"),
        ({"init": "m", "loss": "sigmoid"}, "loss is that of the model to start from"),
        ({"activation": "gelu"}, "activation is that of the weights"),
        ({"betas": (0.9,)}, r"betas is \(0.9,\); wanted tuple\[float, float\]"),
        ({"betas": (0.9, "x")}, r"betas is \(0.9, 'x'\); wanted tuple\[float, float\]"),
        ({"betas": (2, 3)}, "betas are"),
        ({"threads": 2.5}, "threads is 2.5; wanted int"),
        ({"lr": "fast"}, "lr is 'fast'; wanted float"),
        ({"compile": 1}, "compile is 1; wanted bool"),
        ({"loss": "foo"}, "loss 'foo' is not known; choose softmax, sigmoid"),
        ({"optimizer": "sgd"}, "optimizer 'sgd' is not known; choose muon, adamw"),
        ({"epochs": True}, "epochs is True; wanted float"),
        ({"batch_size": 256.0}, "batch_size is 256.0; wanted int"),
        ({"minutes": math.nan}, "minutes is nan; wanted more than 0"),
        ({"weights": (math.nan,)}, "wanted numbers over 0"),
    ],
)
def test_contradictions_name_the_field(wrong: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        TrainConfig(**{"data": ("x",), **wrong})


def test_one_source_needs_no_tuple() -> None:
    assert TrainConfig(data="pairs").data == ("pairs",)


def test_lists_and_paths_become_what_json_can_hold() -> None:
    made = TrainConfig(
        data=[Path("a"), "b"], out=Path("c"), betas=[0.9, 0.99], batch_size=np.int64(8), lr=np.float32(0.5)
    )
    assert (made.data, made.out, made.betas, made.batch_size, made.lr) == (("a", "b"), "c", (0.9, 0.99), 8, 0.5)
    assert from_fields(json.loads(to_json(made))) == made


def test_what_comes_with_a_model_is_no_setting_of_its_run() -> None:
    made = recipe("openai", data="pairs", init="some/model")
    assert "vocab_size" in json.loads(to_json(recipe("openai", data="pairs")))
    assert not set(FROM_MODEL) & json.loads(to_json(made)).keys()
    assert from_fields(json.loads(to_json(made))) == made


def test_no_setting_is_without_a_type_that_a_flag_can_read() -> None:
    """So that --set reaches every field."""
    made = TrainConfig(data=("x",))
    for field in dataclasses.fields(TrainConfig):
        value = getattr(made, field.name)
        if isinstance(value, Augmentation) or value is None:
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert parse_setting(f"{field.name}={text}") == (field.name, value)


def test_places_is_the_old_name_of_region_weight() -> None:
    """In code with a warning; as the key on disk without one."""
    with pytest.warns(DeprecationWarning, match=r"region_weight"):
        made = TrainConfig(data=("x",), places=2.0)  # type: ignore[call-arg]
    assert made == TrainConfig(data=("x",), region_weight=2.0)
    with pytest.warns(DeprecationWarning, match="TrainConfig.places is now region_weight"):
        assert made.places == 2.0
    with pytest.warns(DeprecationWarning, match="region_weight"):
        assert dataclasses.replace(made, places=3.0).region_weight == 3.0  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="places is now region_weight"):
        assert parse_setting("places=2") == ("region_weight", 2.0)
    with pytest.warns(DeprecationWarning, match="places is now region_weight"):
        assert recipe("laptop", data=("x",), places=2.0).region_weight == 2.0
    written = json.loads(to_json(made))
    assert written["places"] == 2.0
    assert "region_weight" not in written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert from_fields(written) == made


def test_set_places_warns_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed_settings(("places=2", "lr=0.5")) == {"region_weight": 2.0, "lr": 0.5}
    assert capsys.readouterr().err.startswith("--set places is now region_weight; the old name works until version")
