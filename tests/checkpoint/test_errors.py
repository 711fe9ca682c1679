"""Whatever a file turns out to be, one sentence says it, and nothing in it is run."""

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diptych.checkpoint import build, read
from diptych.errors import CheckpointError

GOLDEN = Path(__file__).parents[1] / "golden"
ARCHIVE = GOLDEN / "openai_vit" / "openai_vit.pt"
STATE_DICT = GOLDEN / "openai_vit" / "openai_vit_state_dict.pt"
HF_CLIP, OPEN_CLIP = GOLDEN / "hf_clip", GOLDEN / "openclip_odd_heads"
MARKS = ("input_resolution", "context_length", "vocab_size")


def openai_tensors() -> dict[str, Tensor]:
    return torch.load(STATE_DICT, weights_only=True)


def bare() -> dict[str, Tensor]:
    """As open_clip saves them: the same names, and no marks."""
    return {name: tensor for name, tensor in openai_tensors().items() if name not in MARKS}


# Files that are no checkpoint -----------------------------------------------------------------------------------------


def zipped(path: Path, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty (0 bytes); fetch it again."),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page, not a checkpoint; fetch the file itself."),
        (b"\n  <HTML><body>404", "is a web page, not a checkpoint; fetch the file itself."),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the file itself"),
        (b'{"error": "Entry not found"}', 'is not a checkpoint: it starts with b\'{"error": "Entry\'.'),
        (ARCHIVE.read_bytes()[:100_000], "is cut off or damaged"),
        (STATE_DICT.read_bytes()[:100_000], "is cut off or damaged"),
        ((OPEN_CLIP / "open_clip_model.safetensors").read_bytes()[:100_000], "is cut off or damaged"),
        (pickle.dumps({"a": 1}, 2), "is cut off or damaged"),
    ],
)
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_what_the_file_is_instead(content: bytes, says: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read(tmp_path / name, activation="gelu")
    assert str(error.value).startswith(f"{tmp_path / name} {says}")
    assert str(error.value).count("\n") == 0


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    zipped(tmp_path / "model.pt", readme=b"hello")
    with pytest.raises(CheckpointError, match=r"is a zip archive without data.pkl, not a PyTorch checkpoint"):
        read(tmp_path / "model.pt")


def test_a_damaged_archive(tmp_path: Path) -> None:
    data = bytearray(ARCHIVE.read_bytes())
    data[400_000] ^= 1
    (tmp_path / "model.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is cut off or damaged .*Bad CRC"):
        read(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "contains a list; wanted a state dict"),
        ({}, "contains a dict; wanted a state dict"),
        ({"visual.proj": torch.ones(1), "epoch": 3}, "contains more than tensors: epoch; wanted a state dict"),
        ({"a.weight": torch.ones(1)}, "has 1 tensors, of no known CLIP model: a.weight"),
        ({"image.proj.weight": torch.ones(1)}, "this model's sizes are in its config.json"),
        ({"vision_model.x": torch.ones(1)}, "this model's sizes are in its config.json"),
    ],
)
def test_a_pickle_of_something_else(content: Any, says: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError) as error:
        read(tmp_path / "model.pt")
    assert says in str(error.value)


def test_no_such_source(tmp_path: Path) -> None:
    for source in (tmp_path / "missing.pt", "RN50.pt", "runs/ViT-B-32.pt", "./model", "a/b/c", ""):
        if source != "":
            with pytest.raises(CheckpointError, match="is not a file, a folder or a hub id"):
                read(source)
    with pytest.raises(CheckpointError, match=r"has neither config.json nor open_clip_config.json"):
        read(tmp_path)


# Nothing is run -------------------------------------------------------------------------------------------------------


class Malicious:
    """A pickle of it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_malicious_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"visual.proj": Malicious(tmp_path / "harm")}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"asks for posix.system, which is not a tensor; nothing in it was run"):
        read(tmp_path / "model.pt")
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(Malicious(tmp_path / "harm")))
    assert (tmp_path / "harm").exists(), "the trap does not work, and so proves nothing"


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (lambda path: pickle.dumps(Malicious(path), 2), "asks for posix.system, which is not a tensor"),
        (lambda _: b"\x80\x02cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R.", "asks for builtins.eval"),
        (lambda _: b"\x80\x02ctorch._utils\n_rebuild_parameter\n.", "asks for torch._utils._rebuild_parameter"),
        (lambda _: b"\x80\x02ctorch.jit._pickle\nos\n.", "asks for torch.jit._pickle.os"),
        (lambda _: b"\x80\x02X\x01\x00\x00\x00a.", "it contains a str, wanted a module"),
        (lambda _: b"\x80\x02c__torch__.Model\nCLIP\nN}X\x01\x00\x00\x00aK\x01s\x86b.", "not a readable archive"),
        (lambda _: b"\x80\x02", "not a readable archive"),
    ],
)
def test_a_malicious_archive_is_not_run(program: Callable[[Path], bytes], says: str, tmp_path: Path) -> None:
    zipped(tmp_path / "model.pt", m__data_pkl=program(tmp_path / "harm"), m__constants_pkl=b"\x80\x02).")
    with pytest.raises(CheckpointError) as error:
        read(tmp_path / "model.pt")
    assert says in str(error.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("packed", ["m/data.pkl", "m/data/0", "data/1"])
@pytest.mark.parametrize("script", [True, False])
def test_an_archive_that_would_grow(packed: str, script: bool, tmp_path: Path) -> None:
    """torch stores tensors as they are; compressed zeros shrink a thousandfold, and so would fill the memory."""
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name in ("m/data.pkl", "m/data/0", "data/1", *(["m/constants.pkl"] if script else [])):
            archive.writestr(name, bytes(9), zipfile.ZIP_DEFLATED if name == packed else zipfile.ZIP_STORED)
    with pytest.raises(CheckpointError, match=rf"{packed} is compressed, which torch never does; save it again"):
        read(tmp_path / "model.pt")


@pytest.mark.parametrize("size", ["(10,)", "(1000000000000,)"])
def test_a_tensor_that_reaches_past_its_bytes(size: str, tmp_path: Path) -> None:
    """Also by a stride of zero, which would ask for terabytes."""
    (count,) = eval(size)
    number = pickle.dumps(count, 2)[2:-1]
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + number + b"\x85K\x00\x85\x89NtR"
    module = b"c__torch__.Model\nCLIP\n)\x81}X\x06\x00\x00\x00weight" + tensor + b"sb."
    zipped(tmp_path / "model.pt", m__data_pkl=b"\x80\x02" + module, m__constants_pkl=b"", m__data__0=bytes(8))
    with pytest.raises(CheckpointError, match=r"asks for more than the 2 numbers it has"):
        read(tmp_path / "model.pt")


def test_the_archive_s_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("torch.jit.load was called")

    monkeypatch.setattr(torch.jit, "load", refuse)
    assert build(read(ARCHIVE))


# The activation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_file_without_marks_must_be_told_its_activation(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    if suffix == "pt":
        torch.save(bare(), path)
    else:
        save_file(bare(), path)
    with pytest.raises(CheckpointError, match="Pass activation='quick_gelu' or activation='gelu'"):
        read(path)
    with pytest.raises(CheckpointError, match="activation='relu' is not known"):
        read(path, activation="relu")
    assert read(path, activation="gelu").config.text.activation == "gelu"
    told, marked = read(path, activation="quick_gelu"), read(ARCHIVE)
    assert told.config == marked.config
    assert told.preprocess == marked.preprocess
    assert told.notes[0].startswith("no preprocess_cfg: pictures are prepared as for OpenAI's models (bicubic,")


@pytest.mark.parametrize("source", [ARCHIVE, STATE_DICT, HF_CLIP])
def test_an_activation_that_contradicts_the_model(source: Path) -> None:
    assert read(source, activation="quick_gelu").config == read(source).config
    with pytest.raises(
        CheckpointError, match="activation='gelu' was requested, but the model was trained with quick_gelu"
    ):
        read(source, activation="gelu")


def test_the_same_for_open_clip() -> None:
    assert read(OPEN_CLIP, activation="gelu")
    with pytest.raises(
        CheckpointError, match="activation='quick_gelu' was requested, but the model was trained with gelu"
    ):
        read(OPEN_CLIP, activation="quick_gelu")


def test_heads_that_a_file_alone_does_not_tell(tmp_path: Path) -> None:
    name = "open_clip_model.safetensors"
    (tmp_path / name).write_bytes((OPEN_CLIP / name).read_bytes())
    with pytest.raises(CheckpointError, match="80 wide, which does not divide into heads of 64; for other heads"):
        read(tmp_path / name, activation="gelu")


# Tensors --------------------------------------------------------------------------------------------------------------


def changed_archive(path: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    tensors = openai_tensors()
    change(tensors)
    torch.save(tensors, path)
    return path


def lose(name: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda tensors: tensors.pop(name)


def put(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Callable[[dict[str, Tensor]], Any]:
    return lambda tensors: tensors.update({name: torch.zeros(shape, dtype=dtype)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lose("ln_final.bias"), "1 of its tensors does not fit its configuration: ln_final.bias (64) is missing."),
        (put("visual.extra", 2, 3), "visual.extra (2, 3) is not expected"),
        (put("text_projection", 63, 32), "text_projection is (63, 32), wanted (64, 32)"),
        (put("ln_final.bias", 64, dtype=torch.int8), "ln_final.bias is (64) int8, wanted (64)"),
        (lose("visual.conv1.weight"), "the tensor 'visual.conv1.weight', whose shape gives sizes, is missing"),
        (put("input_resolution", dtype=torch.int64), "holds no patch of 8 px"),
        (
            lambda t: t.update(input_resolution=torch.tensor(40)),
            "positional_embedding is (17, 128), wanted (26, 128)",
        ),
        (lambda t: t.update(vocab_size=torch.tensor(65)), "token_embedding.weight is (64, 64), wanted (65, 64)"),
        (lambda t: t.update(vocab_size=torch.ones(2)), "can be converted to"),
        (put("visual.conv1.weight", 3), "not enough values to unpack"),
    ],
)
def test_tensors_that_do_not_fit(change: Callable[[dict[str, Tensor]], None], says: str, tmp_path: Path) -> None:
    path = changed_archive(tmp_path / "model.pt", change)
    with pytest.raises(CheckpointError) as error:
        read(path)
    assert str(path) in str(error.value)
    assert says in str(error.value)


def test_many_problems_are_one_error_and_counted(tmp_path: Path) -> None:
    for name in ("config.json",):
        (tmp_path / name).write_bytes((HF_CLIP / name).read_bytes())
    tensors = load_file(HF_CLIP / "model.safetensors")
    layers = {name for name in tensors if ".layers.1." in name}
    save_file({name: t for name, t in tensors.items() if name not in layers}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        read(tmp_path)
    message = str(error.value)
    assert f"{len(layers)} of its tensors do not fit" in message
    assert message.count("is missing") == 6
    assert message.endswith(f"; and {len(layers) - 6} more.")


# Configurations -------------------------------------------------------------------------------------------------------


def folder_with(tmp_path: Path, source: Path, name: str, change: Callable[[dict[str, Any]], None]) -> Path:
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((source / name).read_text())
    change(settings)
    (tmp_path / name).write_text(json.dumps(settings))
    return tmp_path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(model_type="siglip2"), "model_type='siglip2' (NaFlex"),
        (lambda c: c.update(model_type="chinese_clip"), "model_type='chinese_clip' is not supported; clip, siglip and"),
        (lambda c: c.pop("model_type"), "model_type=None is not supported"),
        (lambda c: c["text_config"].update(hidden_act="relu"), "text_config.hidden_act='relu' is not supported"),
        (lambda c: c["text_config"].update(hidden_size="64"), "text_config.hidden_size='64' is not supported"),
        (lambda c: c["text_config"].update(eos_token_id=[1, 2]), "text_config.eos_token_id=[1, 2] is not supported"),
        (
            lambda c: c["vision_config"].update(image_size=[32, 48]),
            "vision_config.image_size=[32, 48] is not supported",
        ),
        (
            lambda c: c["vision_config"].update(num_channels=1),
            "vision_config.num_channels=1 is not supported; only 3 is",
        ),
        (lambda c: c["vision_config"].update(num_attention_heads=3), "128 does not divide into 3 heads"),
        (lambda c: c.update(vision_config=7), "config.json"),
        (
            lambda c: c["vision_config"].update(image_size=64),
            "position_embedding.weight is (17, 128), wanted (65, 128)",
        ),
    ],
)
def test_a_config_json_that_asks_for_another_model(change: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        read(folder_with(tmp_path, HF_CLIP, "config.json", change))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["vision_cfg"].update(timm_model_name="convnext_base"), "timm_model_name='convnext_base'"),
        (
            lambda c: c["vision_cfg"].update(pool_type="avg"),
            "vision_cfg.pool_type='avg' is not supported; only 'tok' is",
        ),
        (lambda c: c["vision_cfg"].update(attentional_pool=True), "vision_cfg.attentional_pool=True"),
        (lambda c: c["vision_cfg"].update(moe=4), "vision_cfg.moe is not supported"),
        (
            lambda c: c["vision_cfg"].update(act_kwargs={"inplace": True}),
            "act_kwargs={'inplace': True} is not supported",
        ),
        (lambda c: c["text_cfg"].update(hf_model_name="roberta-base"), "text_cfg.hf_model_name='roberta-base'"),
        (lambda c: c["text_cfg"].update(embed_cls=True), "text_cfg.embed_cls=True is not supported; only False is"),
        (lambda c: c["text_cfg"].update(pool_type="first"), "text_cfg.pool_type='first' is not supported"),
        (lambda c: c.pop("embed_dim"), "open_clip_config.json lacks 'embed_dim'"),
        (lambda c: c.update(text_cfg=None), "open_clip_config.json"),
        (lambda c: c["vision_cfg"].update(head_width=16), "80"),
    ],
)
def test_an_open_clip_config_that_asks_for_another_model(change: Any, says: str, tmp_path: Path) -> None:
    def change_model(settings: dict[str, Any]) -> None:
        change(settings["model_cfg"])

    folder = folder_with(tmp_path, OPEN_CLIP, "open_clip_config.json", change_model)
    if says == "80":  # another number of heads fits the same tensors: this is why heads are never guessed
        assert read(folder).config.image.heads == 5  # type: ignore[union-attr]
        return
    with pytest.raises(CheckpointError) as error:
        read(folder)
    assert says in str(error.value)


@pytest.mark.parametrize("change", [{"resize_mode": "longest"}, {"interpolation": "random"}, {"mean": [0.5]}])
def test_open_clip_s_other_ways_to_prepare_pictures(change: dict[str, Any], tmp_path: Path) -> None:
    folder = folder_with(tmp_path, OPEN_CLIP, "open_clip_config.json", lambda c: c["preprocess_cfg"].update(change))
    with pytest.raises(CheckpointError, match=next(iter(change)).replace("resize_", "")):
        read(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(colour="red"), "colour is not known"),
        (lambda c: c["text"].update(widht=64), "text.widht is not known"),
        (lambda c: c["image"].update(pool="middle"), "pool 'middle' is not known"),
        (lambda c: c["image"].update(tower="mixer"), "'mixer' is missing or not known"),
        (lambda c: c.pop("image"), "'image' is missing or not known"),
        (lambda c: c["image"].update(width="64"), "its configuration is not that of a network: image.width="),
        (lambda c: c["text"].update(width=128), "text.positions is (40, 64), wanted (40, 128)"),
    ],
)
def test_our_own_config_json_with_a_slip(change: Any, says: str, tmp_path: Path) -> None:
    from tests.checkpoint.test_checkpoint import varied
    from tests.checkpoint.test_saving import saved

    source = saved(varied(image__pool="mean"), tmp_path / "source")
    (tmp_path / "copy").mkdir()
    with pytest.raises(CheckpointError) as error:
        read(folder_with(tmp_path / "copy", source, "config.json", change))
    assert says in str(error.value)


@pytest.mark.parametrize("content", [b'{"model_type": "cl', b"\xff\xfe", b"[]"])
def test_a_config_json_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "config.json"))):
        read(tmp_path)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((HF_CLIP / "config.json").read_bytes())
    with pytest.raises(
        CheckpointError, match=r"contains no weights; wanted model.safetensors, .* or pytorch_model.bin"
    ):
        read(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"is not a list of shards: it has no weight_map"):
        read(tmp_path)
