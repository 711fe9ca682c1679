"""The folders that people really pass: one level too high is opened where one model is in it, else named."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import diptych
from diptych.checkpoint import convert, read
from diptych.checkpoint.finding import BUNDLED, find
from diptych.cli import run
from diptych.errors import CheckpointError
from tests.checkpoint.test_checkpoint import HF_CLIP, HF_SIGLIP, OPEN_CLIP
from tests.conftest import GOLDEN


def put(folder: Path, source: Path = HF_CLIP) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, folder)
    return folder


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def modules(folder: Path, *kinds: str, path: str = "{}_{}") -> None:
    listed = [
        {"idx": i, "name": str(i), "path": path.format(i, kind), "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write(folder / "modules.json", listed)


def sentence_transformers(folder: Path) -> None:
    put(folder / "0_CLIPModel")
    modules(folder, "CLIPModel", "Normalize")
    (folder / "1_Normalize").mkdir()
    write(folder / "config_sentence_transformers.json", {})


def cache(folder: Path) -> None:
    put(folder / "snapshots" / "3d74acf9")
    put(folder / "snapshots" / "0b9c11aa", HF_SIGLIP)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("3d74acf9\n")


def trainer(folder: Path) -> None:
    put(folder / "checkpoint-500")
    (folder / "runs").mkdir()


def pipeline(folder: Path) -> None:
    put(folder / "clip_model")
    put(folder / "text_encoder", HF_SIGLIP)
    parts = {"text_encoder": ["transformers", "CLIPTextModel"], "clip_model": ["transformers", "CLIPModel"]}
    write(folder / "model_index.json", {"_class_name": "CLIPGuidedPipeline", "safety": [None, None], **parts})


def ended(folder: Path) -> None:
    write(folder / "run.json", {})
    put(folder / "checkpoints" / "000000200", HF_SIGLIP)
    put(folder / "model")


def begun(folder: Path) -> None:
    write(folder / "run.json", {})
    put(folder / "checkpoints" / "000000100", HF_SIGLIP)
    put(folder / "checkpoints" / "000000200")


ONE: dict[str, tuple[Callable[[Path], object], str]] = {
    "sentence-transformers": (sentence_transformers, "0_CLIPModel"),
    "a cache of the hub": (cache, "snapshots/3d74acf9"),
    "a cache with one revision": (lambda folder: put(folder / "snapshots" / "3d74acf9"), "snapshots/3d74acf9"),
    "sentence-transformers in a cache": (
        lambda folder: sentence_transformers(folder / "snapshots" / "3d74acf9"), "snapshots/3d74acf9/0_CLIPModel",
    ),
    "a trainer's folder": (trainer, "checkpoint-500"),
    "a pipeline with a whole CLIP": (pipeline, "clip_model"),
    "a run": (ended, "model"),
    "a run that goes on": (begun, "checkpoints/000000200"),
    "a trainer's folder of sentence-transformers": (
        lambda folder: sentence_transformers(folder / "checkpoint-20"), "checkpoint-20/0_CLIPModel",
    ),
    "the folder of one run": (lambda folder: ended(folder / "first"), "first/model"),
    "any folder around one": (lambda folder: put(folder / "clip"), "clip"),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
@pytest.mark.parametrize("kind", ONE)
def test_the_one_right_answer(kind: str, engine: Any, tmp_path: Path) -> None:
    make, where = ONE[kind]
    make(tmp_path / "it")
    model = diptych.load(tmp_path / "it", engine=engine, device="cpu")
    assert model.fingerprint == diptych.load(HF_CLIP).fingerprint
    assert model.notes[0] == f"opened {where}, the model in it"
    assert model.source == str(tmp_path / "it")
    assert read(tmp_path / "it").notes[0] == model.notes[0]


def test_the_folder_of_revisions_itself(tmp_path: Path) -> None:
    cache(tmp_path / "models--a--b")
    assert find(tmp_path / "models--a--b" / "snapshots").path.name == "3d74acf9"


def adapter(folder: Path) -> None:
    write(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "openai/clip-vit-b"})
    (folder / "adapter_model.safetensors").write_bytes(b"")


def adapter_beside_its_config(folder: Path) -> None:
    adapter(folder)
    write(folder / "config.json", json.loads((HF_CLIP / "config.json").read_text()))


def towers(folder: Path) -> None:
    for name in ("text_encoder", "unet"):
        write(folder / name / "config.json", {"model_type": "clip_text_model"})
    parts = {"text_encoder": ["transformers", "CLIPTextModel"], "unet": ["diffusers", "UNet2DConditionModel"]}
    write(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline", **parts})


def revisions(folder: Path) -> None:
    put(folder / "snapshots" / "3d74acf9")
    put(folder / "snapshots" / "0b9c11aa")


def dense(folder: Path) -> None:
    put(folder / "0_CLIPModel")
    modules(folder, "CLIPModel", "Dense")


def several(folder: Path) -> None:
    put(folder / "checkpoint-500")
    put(folder / "checkpoint-1000")


def beside(folder: Path) -> None:
    put(folder.parent / "0_CLIPModel")
    folder.mkdir()


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an adapter": (adapter, r"a PEFT adapter \(LORA\) for openai/clip-vit-b.* Merge both first"),
    "an adapter with the config": (
        adapter_beside_its_config,
        r"a PEFT adapter \(LORA\) for openai/clip",
    ),
    "towers": (
        towers,
        r"a diffusers pipeline \(StableDiffusionPipeline\).*text_encoder \(CLIPTextModel\): single towers",
    ),
    "revisions": (revisions, r"with 2 revisions, none marked as current.*0b9c11aa, .*3d74acf9"),
    "more after it": (dense, r"model of 0_CLIPModel \(CLIPModel\), 1_Dense \(Dense\); only a whole CLIP"),
    "several": (several, r"It contains 2 models; pass one of them: .*checkpoint-500, .*checkpoint-1000\."),
    "beside": (beside, r"it is not a model folder\. It is empty\. Beside it there is 0_CLIPModel\."),
    "no model yet": (lambda folder: write(folder / "run.json", {}), "a run's folder, without a saved model yet"),
    "nothing": (lambda folder: folder.mkdir(), r"not a model folder\. It is empty\."),
    "other things": (lambda folder: write(folder / "a.json", 1), r"not a model folder\. It contains a\.json\."),
    "no list": (lambda folder: write(folder / "modules.json", {"a": 1}), "modules.json is not a list of modules"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_else_what_was_found_is_named(kind: str, tmp_path: Path) -> None:
    make, says = OTHERS[kind]
    make(tmp_path / "it")
    with pytest.raises(CheckpointError, match=says):
        diptych.load(tmp_path / "it")


def test_an_adapter_beside_whole_weights_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    adapter(put(tmp_path / "it"))
    assert read(tmp_path / "it").notes[0].startswith("a PEFT adapter beside the weights is not used")


def test_no_list_leads_out_of_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "outside")
    (tmp_path / "it").mkdir()
    modules(tmp_path / "it", "CLIPModel", path="../outside")
    with pytest.raises(CheckpointError, match="only a whole CLIP"):
        find(tmp_path / "it")


def tower(folder: Path) -> None:
    write(folder / "config.json", {"model_type": "clip_text_model"})


def sharded(folder: Path) -> None:
    write(folder / "config.json", json.loads((HF_CLIP / "config.json").read_text()))
    (folder / "optimizer.bin").write_bytes(b"")
    (folder / "pytorch_model_fsdp_0").mkdir()


def runs(folder: Path) -> None:
    ended(folder / "first")
    begun(folder / "second")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            tower,
            r"model_type='clip_text_model' \(a single tower; pass the whole model\) is not supported",
        ),
        (
            sharded,
            r"contains no weights; wanted model.safetensors.* It contains config.json, optimizer.bin, pytorch_model",
        ),
        (runs, r"It contains 2 models; pass one of them: .*first/model, .*second/checkpoints/000000200"),
    ],
)
@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_a_folder_that_says_what_it_has(make: Any, says: str, engine: Any, tmp_path: Path) -> None:
    make(tmp_path / "it")
    with pytest.raises(CheckpointError, match=says):
        diptych.load(tmp_path / "it", engine=engine, device="cpu")


def test_a_folder_with_one_file_of_weights_is_that_file(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "openai_vit" / "openai_vit.pt", tmp_path / "RN50.pt")
    (tmp_path / "notes.txt").write_text("from a friend")
    assert find(tmp_path).path == tmp_path / "RN50.pt"
    assert read(tmp_path).notes == ("opened RN50.pt, the model in it",)
    shutil.copy(tmp_path / "RN50.pt", tmp_path / "other.pt")
    with pytest.raises(
        CheckpointError, match=r"It contains 2 files of weights: RN50\.pt, other\.pt; pass the path of one"
    ):
        find(tmp_path)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "model")
    monkeypatch.setenv("HOME" if os.name == "posix" else "USERPROFILE", str(tmp_path))
    assert find("~/model").path == tmp_path / "model"


# open_clip's folders --------------------------------------------------------------------------------------------------

WEIGHTS = OPEN_CLIP / "open_clip_model.safetensors"


def open_clip_folder(folder: Path, *names: str) -> Path:
    folder.mkdir()
    shutil.copy(OPEN_CLIP / "open_clip_config.json", folder)
    for name in names:
        if name.endswith("safetensors"):
            shutil.copy(WEIGHTS, folder / name)
        else:
            torch.save(
                {"epoch": 3, "state_dict": {f"module.{n}": t for n, t in load_file(WEIGHTS).items()}}, folder / name
            )
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "epoch_3.pt", "pytorch_model.bin", "weights.safetensors"])
def test_open_clip_s_weights_under_any_name(name: str, tmp_path: Path) -> None:
    folder, wanted = open_clip_folder(tmp_path / "it", name), read(OPEN_CLIP)
    for source in (folder, folder / name):
        came = read(source)
        assert came.config == wanted.config
        assert all(torch.equal(came.state[each], tensor) for each, tensor in wanted.state.items())
        assert came.preprocess == wanted.preprocess
    assert "used open_clip_config.json beside it" in read(folder / name).notes


def test_one_of_several_epochs_has_to_be_named(tmp_path: Path) -> None:
    folder = open_clip_folder(tmp_path / "it", "epoch_1.pt", "epoch_2.pt")
    with pytest.raises(
        CheckpointError, match=r"contains 2 files of weights: epoch_1.pt, epoch_2.pt. Pass the path of one"
    ):
        read(folder)
    assert read(folder / "epoch_2.pt").config == read(OPEN_CLIP).config


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="another system's files")
def test_a_pipe_is_no_file_of_weights(tmp_path: Path) -> None:
    """Whatever it is called; nobody would ever write to it."""
    for name in ("open_clip_model.safetensors", "epoch_1.pt"):
        folder = open_clip_folder(tmp_path / name)
        os.mkfifo(folder / name)
        with pytest.raises(CheckpointError, match="contains no weights"):
            read(folder)


def test_where_both_configurations_lie_the_weights_decide(tmp_path: Path) -> None:
    folder = open_clip_folder(tmp_path / "it", "open_clip_model.safetensors")
    shutil.copy(HF_CLIP / "config.json", folder)
    assert read(folder).config == read(OPEN_CLIP).config
    shutil.copy(HF_CLIP / "model.safetensors", folder)
    assert read(folder).config == read(HF_CLIP).config


def test_a_file_of_weights_beside_its_config(tmp_path: Path) -> None:
    folder = put(tmp_path / "it")
    for name in ("model.safetensors", "other.safetensors"):
        (folder / "model.safetensors").rename(folder / name)
        (folder / name).with_name("model.safetensors").write_bytes((folder / name).read_bytes())
        assert read(folder / name).config == read(HF_CLIP).config
        assert read(folder / name).notes[0] == "used config.json beside it"


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "epoch_3.pt"])
@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_hugging_face_s_weights_under_another_name(name: str, engine: Any, tmp_path: Path) -> None:
    folder = put(tmp_path / "it")
    tensors = load_file(folder / "model.safetensors")
    for other in folder.glob("*.safetensors"):
        other.unlink()
    if name.endswith("pt"):
        torch.save({"model": tensors, "epoch": 3}, folder / name)
    else:
        shutil.copy(HF_CLIP / "model.safetensors", folder / name)
    (folder / "optimizer.pt").write_bytes(b"what training kept")
    assert diptych.load(folder, engine=engine, device="cpu").fingerprint == diptych.load(HF_CLIP).fingerprint


def test_a_file_that_tells_all_needs_nothing_beside(tmp_path: Path) -> None:
    archive = GOLDEN / "openai_vit" / "openai_vit.pt"
    shutil.copy(archive, open_clip_folder(tmp_path / "it") / "model.pt")
    assert read(tmp_path / "it" / "model.pt").config == read(archive).config


# bundled --------------------------------------------------------------------------------------------------------------


def test_bundled_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read("bundled").source == str(BUNDLED)
    assert diptych.load("bundled").fingerprint == diptych.load().fingerprint
    monkeypatch.setattr("diptych.checkpoint.finding.BUNDLED", tmp_path / "nowhere")
    for name in (None, "bundled"):
        with pytest.raises(CheckpointError, match="lacks the bundled model"):
            find(name)


def test_bundled_can_be_named_to_every_command(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(next(pictures.glob("*.png")))
    assert run(["compare", picture, "a star", "--model", "bundled", "--device", "cpu", "--json"]) == 0
    capsys.readouterr()
    assert run(["convert", "bundled", str(tmp_path / "open")]) == 0
    err = capsys.readouterr().err
    assert "transformers has no class for this model (its image tower is an EfficientNet)" in err
    assert "For other programs pass --to onnx or --to openvino." in err
    assert run(["convert", "bundled", str(tmp_path / "other"), "--to", "open_clip"]) == 1
    assert "For other programs convert it with --to onnx or --to openvino." in capsys.readouterr().err


def test_what_transformers_lacks_is_said_before_it_is_written(tiny_model: Path, tmp_path: Path) -> None:
    def stop(words: object) -> None:
        assert not (tmp_path / "model").exists()
        raise InterruptedError

    with pytest.raises(InterruptedError):
        convert("bundled", tmp_path / "model", notice=stop)
    with pytest.warns(UserWarning, match="its image tower is an EfficientNet.*pass to='onnx' or to='openvino'"):
        convert("bundled", tmp_path / "model")
    assert read(tmp_path / "model").config == read("bundled").config
    convert(tiny_model, tmp_path / "other", notice=stop)


def test_a_folder_around_the_source_is_not_replaced(tmp_path: Path) -> None:
    ended(tmp_path / "it")
    for target in (tmp_path / "it" / "model", tmp_path / "it"):
        with pytest.raises(CheckpointError, match="nothing was written"):
            diptych.convert(tmp_path / "it", target, to="open_clip")
