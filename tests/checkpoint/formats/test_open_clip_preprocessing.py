"""The preprocessing of open_clip's models whose files do not contain it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import diptych
from diptych.checkpoint import read
from diptych.checkpoint.formats import open_clip
from diptych.checkpoint.formats.name_table import renamed
from diptych.checkpoint.formats.open_clip_config import config_from_json
from diptych.checkpoint.formats.open_clip_preprocessing import default_preprocessing, preprocess_from_json
from diptych.checkpoint.weights.shape_check import expected_specs
from diptych.cli import run
from diptych.errors import CheckpointError
from diptych.media.preprocessing import OPENAI_MEAN, OPENAI_STD, Preprocess
from diptych.nets.config import ResNetConfig, ViTConfig
from tests.checkpoint.test_checkpoint import varied
from tests.checkpoint.test_errors import folder_with
from tests.conftest import GOLDEN

OPEN_CLIP = GOLDEN / "openclip_odd_heads"
HALF = (0.5, 0.5, 0.5)


# What the table of pretrained weights in open_clip 3.3 says of each.
@pytest.mark.parametrize(
    ("timm_name", "image", "spec"),
    [
        ("vit_base_patch16_siglip_224", ViTConfig(), Preprocess(224, HALF, HALF, "squash", "bicubic")),
        ("vit_so400m_patch14_siglip_378", ViTConfig(378, 14), Preprocess(224, HALF, HALF, "squash", "bicubic")),
        ("fastvit_mci0", ViTConfig(), Preprocess(224, (0, 0, 0), (1, 1, 1), "crop", "bilinear")),
        ("vit_base_mci_224.apple_mclip", ViTConfig(), Preprocess(224, (0, 0, 0), (1, 1, 1), "crop", "bilinear")),
        ("fastvit_mci4", ViTConfig(), Preprocess(224, OPENAI_MEAN, OPENAI_STD, "crop", "bilinear")),
        ("vit_pe_core_base_patch16_224", ViTConfig(), Preprocess(224, HALF, HALF, "squash", "bilinear")),
        ("", ViTConfig(378, 14), Preprocess(224, OPENAI_MEAN, OPENAI_STD, "squash", "bicubic")),
        ("", ViTConfig(384, 16), Preprocess(224)),
        ("", ResNetConfig(), Preprocess(224)),
    ],
)
def test_each_architecture_has_its_own(timm_name: str, image: Any, spec: Preprocess) -> None:
    said, note = default_preprocessing(image, timm_name)
    assert preprocess_from_json(said, 224, "a model") == spec
    assert note.startswith("no preprocess_cfg: pictures are prepared as")
    assert spec.interpolation in note


def without(folder: Path) -> Path:
    def drop(settings: dict[str, Any]) -> None:
        del settings["preprocess_cfg"]

    return folder_with(folder, OPEN_CLIP, "open_clip_config.json", drop)


def test_what_was_taken_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "no preprocess_cfg: pictures are prepared as for OpenAI's models (bicubic, centre crop, mean 0.481"
    model = diptych.load(without(tmp_path))
    assert model.preprocessing == Preprocess(24)
    assert model.notes[0].startswith(said)
    assert run(["doctor", "--model", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["facts"]["note 1"].startswith(said)
    assert said in err
    assert read(OPEN_CLIP).notes == ()


def test_a_siglip_without_it() -> None:
    settings = {
        "model_cfg": {
            "embed_dim": 768, "init_logit_bias": -10, "custom_text": True,
            "vision_cfg": {"image_size": 224, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map",
                           "timm_proj": "none"},
            "text_cfg": {"context_length": 64, "vocab_size": 7, "width": 768, "heads": 12, "layers": 1,
                         "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
                         "norm_kwargs": {"eps": 1e-6}},
        }
    }  # fmt: skip
    config = config_from_json(settings, "a model")
    forms = renamed(open_clip.key_mappings(config), expected_specs(config, "a model"), "open_clip")
    tensors = {name: torch.zeros(()).expand(form.shape) for name, form in forms.items()}
    came = open_clip.read(tensors, settings, "a model")
    assert Preprocess.from_hugging_face(came.preprocess or {}) == Preprocess(224, HALF, HALF, "squash", "bicubic")
    assert came.notes[0].startswith("no preprocess_cfg: pictures are prepared as for SigLIP's models (bicubic, squ")


def test_bare_weights_say_it_as_well(tmp_path: Path) -> None:
    tensors = torch.load(GOLDEN / "openai_vit" / "openai_vit_state_dict.pt", weights_only=True)
    marks = ("input_resolution", "context_length", "vocab_size")
    torch.save({name: tensor for name, tensor in tensors.items() if name not in marks}, tmp_path / "model.pt")
    assert read(tmp_path / "model.pt", activation="gelu").notes[0].startswith("no preprocess_cfg: pictures are")


def test_a_picture_of_other_channels_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, OPEN_CLIP, "open_clip_config.json", lambda c: c["preprocess_cfg"].update(mode="L"))
    with pytest.raises(CheckpointError, match="mode='L' is not supported; only 'RGB' is"):
        read(folder)


def test_a_folder_of_hugging_face_s_without_its_file(tmp_path: Path) -> None:
    from tests.checkpoint.test_saving import saved

    folder = saved(varied(), tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    note = "no preprocessor_config.json: pictures are prepared as for OpenAI's models"
    assert read(folder).notes == diptych.load(folder).notes == (note,)
    shutil.rmtree(folder)
