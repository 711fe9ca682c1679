"""Keys that nothing reads: refused where they change what a model computes, passed over and listed otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest

import diptych
from diptych.checkpoint import read
from diptych.cli import run
from diptych.errors import CheckpointError
from diptych.media.preprocessing import Preprocess
from tests.checkpoint.test_checkpoint import HF_CLIP, HF_SIGLIP, OPEN_CLIP
from tests.checkpoint.test_errors import folder_with
from tests.conftest import GOLDEN

# As folders of the hub have it, written by transformers 4 and 5 and by trainers.
BOOKKEEPING: dict[str, Any] = {
    "_name_or_path": "openai/clip-vit-base-patch32", "_commit_hash": None, "_attn_implementation_autoset": True,
    "architectures": ["CLIPModel"], "torch_dtype": "float32", "transformers_version": "4.49.0", "dropout": 0.0,
    "attention_dropout": 0.1, "initializer_range": 0.02, "chunk_size_feed_forward": 0, "return_dict": True,
    "id2label": {"0": "LABEL_0"}, "problem_type": None, "pruned_heads": {}, "tie_word_embeddings": True,
    "num_beams": 1, "temperature": 1.0, "prefix": None, "use_bfloat16": False, "task_specific_params": None,
    "adapters": {}, "position_embedding_type": "absolute", "gradient_checkpointing": False, "finetuning_task": None,
    "auto_map": {"AutoProcessor": "processing.Processor"}, "license": "mit", "is_decoder": False,
}  # fmt: skip


@pytest.mark.parametrize("source", [HF_CLIP, HF_SIGLIP])
def test_what_real_folders_carry_is_passed_over_and_listed(source: Path, tmp_path: Path) -> None:
    def carry(settings: dict[str, Any]) -> None:
        for part in (settings, settings["text_config"], settings["vision_config"]):
            part.update({**BOOKKEEPING, **part})

    folder = folder_with(tmp_path, source, "config.json", carry)
    assert read(folder).config == read(source).config
    passed = read(folder).ignored_keys
    for where in ("", "text_config.", "vision_config."):
        assert {f"config.json: {where}{key}" for key in BOOKKEEPING} <= set(passed)
    assert not [key for key in passed if key.endswith(("hidden_size", "vocab_size", "model_type", "image_size"))]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_register_tokens", 4), ("use_rope", True), ("rope_theta", 10_000.0), ("pooling_type", "mean"),
        ("qk_norm", True), ("layerscale_value", 0.1), ("window_size", 14), ("attention_type", "cosine"),
        ("num_experts", 8), ("position_embedding_type", "relative_key"), ("norm_type", "rms_norm"),
        ("quantization_config", {"load_in_8bit": True}), ("pruned_heads", {"0": [1]}), ("is_causal", True),
        ("auto_map", {"AutoModel": "modeling.Model"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("part", [None, "text_config", "vision_config"])
@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_what_changes_the_vectors_is_refused_by_name(
    key: str, value: object, part: str | None, engine: Any, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, HF_CLIP, "config.json", lambda c: (c[part] if part else c).update({key: value}))
    with pytest.raises(CheckpointError, match=rf"config.json: {part + '.' if part else ''}{key}=.*is not supported"):
        diptych.load(folder, engine=engine, device="cpu")


@pytest.mark.parametrize("part", ["vision_config", "text_config"])
def test_in_the_second_set_of_old_folders_too(part: str, tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path, HF_CLIP, "config.json", lambda c: c.update({f"{part}_dict": c[part] | {"use_rope": True}})
    )
    with pytest.raises(CheckpointError, match=rf"{part}_dict.use_rope=True is not supported"):
        read(folder)


def test_open_clip_s_keys(tmp_path: Path) -> None:
    def carry(settings: dict[str, Any]) -> None:
        settings |= {"license": "mit", "tags": []}
        settings["model_cfg"] |= {"custom_text": True, "init_logit_scale": 2.6}
        settings["model_cfg"]["vision_cfg"] |= {"patch_dropout": 0.5, "attn_pooler_heads": 8}
        settings["preprocess_cfg"] |= {"size": [24, 24], "fill_color": 0, "mode": "RGB", "num_classes": 3}

    folder = folder_with(tmp_path, OPEN_CLIP, "open_clip_config.json", carry)
    assert read(folder).config == read(OPEN_CLIP).config
    assert set(read(folder).ignored_keys) == {
        f"open_clip_config.json: {key}"
        for key in ("license", "tags", "model_cfg.custom_text", "model_cfg.init_logit_scale",
                    "vision_cfg.patch_dropout", "vision_cfg.attn_pooler_heads", "preprocess_cfg.size",
                    "preprocess_cfg.fill_color", "preprocess_cfg.num_classes")
    } | set(read(OPEN_CLIP).ignored_keys)  # fmt: skip


def test_other_numbers_than_open_clip_s_are_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, OPEN_CLIP, "open_clip_config.json", lambda c: c.update(quantization={"bits": 8}))
    with pytest.raises(CheckpointError, match=r"open_clip_config.json: quantization=.* is not supported"):
        read(folder)


PICTURES: dict[str, Any] = {
    "_valid_processor_keys": ["images"], "processor_class": "CLIPProcessor", "disable_grouping": None,
    "return_tensors": "pt", "device": "cpu", "input_data_format": "channels_last", "image_seq_length": 50,
    "use_fast": True, "auto_map": {"AutoProcessor": "x.Y"}, "transformers_version": "4.49.0", "do_pad": False,
    "do_flip_channel_order": False, "license": "mit",
}  # fmt: skip


def test_how_pictures_are_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = Preprocess(32, interpolation="bilinear")
    for path in HF_CLIP.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(spec.to_hugging_face() | PICTURES))
    model = diptych.load(tmp_path)
    assert model.preprocessing == spec
    passed = {key.partition(": ")[2] for key in model.ignored_keys if key.startswith("preprocessor_config.json")}
    assert passed == set(PICTURES) - {"do_pad", "do_flip_channel_order"}
    assert run(["doctor", "--model", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "ignored in preprocessor_config.json" in listed
    assert "disable_grouping" in listed


@pytest.mark.parametrize(
    ("key", "value"),
    [("do_pad", True), ("do_flip_channel_order", True), ("do_thumbnail", True), ("crop_pct", 0.9), ("pad_size", 240)],
)
def test_other_pixels_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"preprocessor_config.json: {key}={value}"):
        Preprocess.from_hugging_face(Preprocess(32).to_hugging_face() | {key: value})


def test_golden_folders_are_real_ones() -> None:
    assert any(key.endswith("transformers_version") for key in read(GOLDEN / "hf_clip").ignored_keys)
