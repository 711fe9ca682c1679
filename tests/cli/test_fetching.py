"""What is said and asked before a model is fetched, by a server on this machine that speaks the hub's protocol."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import NOWHERE, Hub, point_to, standing_in
from terminals import Terminal

from diptych.checkpoint.hub import Download
from diptych.checkpoint.pretrained.names import pretrained_models
from diptych.cli import FAILED, OK, run
from diptych.cli.fetching import description
from tests.conftest import Cli

NAME = "clip-vit-b-32"
REPOSITORY = pretrained_models()[NAME].hub_id
TOLD = "is not in the cache of the hub; to fetch: "


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path) -> Iterator[Hub]:
    with standing_in(monkeypatch, tmp_path / "cache") as server:
        server.repositories[REPOSITORY] = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
        server.cards[REPOSITORY] = {"license": "apache-2.0"}
        yield server


@pytest.fixture
def command(pictures: Path) -> list[str]:
    return ["compare", str(pictures / "scene-0.png"), "a star", "--model", NAME, "--device", "cpu"]


def test_without_a_terminal_it_is_told_once_what_is_fetched(hub: Hub, cli: Cli, command: list[str]) -> None:
    said = cli(*command, "--json")
    assert said.code == OK
    files = hub.repositories[REPOSITORY]
    wanted = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
    size_mb = sum(len(files[name]) for name in wanted if name in files) / 1e6
    assert f"{REPOSITORY} (ViT-B/32) {TOLD}{size_mb:.3g} MB; license: apache-2.0" in said.err
    assert said.json
    assert TOLD not in cli(*command).err


def test_offline_nothing_is_told(hub: Hub, cli: Cli, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli(*command).code == OK
    point_to(NOWHERE, monkeypatch)
    said = cli(*command)
    assert (said.code, TOLD in said.err) == (OK, False)


def test_offline_without_a_copy(cli: Cli, hub: Hub, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(NOWHERE, monkeypatch)
    said = cli(*command)
    assert said.code == FAILED
    assert "the hub cannot be reached" in said.err
    assert REPOSITORY in said.err


class Typed(Terminal):
    """A terminal's input."""


@pytest.mark.parametrize(
    ("typed", "flags", "code"),
    [("\n", (), OK), ("y\n", (), OK), ("n\n", (), FAILED), ("", (), FAILED), ("", ("--yes",), OK)],
)
def test_a_terminal_user_is_asked(
    typed: str, flags: tuple[str, ...], code: int, hub: Hub, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Terminal()
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    monkeypatch.setattr(sys, "stderr", told)
    assert run([*command, *flags]) == code
    assert ("Fetch it? [Y/n]" in told.getvalue()) == (not flags)
    assert TOLD in " ".join(told.getvalue().split())
    assert ("model.safetensors" in hub.asked) == (code == OK)
    if code == FAILED:
        assert f"{REPOSITORY} was not fetched. Use the bundled model" in " ".join(told.getvalue().split())


@pytest.mark.parametrize(
    "command_line",
    [("convert", NAME, "{}/out"), ("doctor", "--model", NAME), ("train", "--init", NAME, "--data", "{}/none")],
)
def test_every_command_asks(
    command_line: tuple[str, ...], hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pictures: Path
) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "captions.csv").write_text(
        "image,caption\n" + "".join(f"{pictures}/scene-{i}.png,a star {i}\n" for i in range(4))
    )
    told = Terminal()
    monkeypatch.setattr(sys, "stdin", Typed("n\n"))
    monkeypatch.setattr(sys, "stderr", told)
    monkeypatch.chdir(tmp_path)
    flags = ("--allow-outside", "--device", "cpu") if command_line[0] == "train" else ()
    assert run([part.format(tmp_path) for part in (*command_line, *flags)]) == FAILED
    assert "was not fetched" in " ".join(told.getvalue().split())


def test_the_table_has_what_the_hub_leaves_open() -> None:
    assert description(Download(REPOSITORY, None, None)) == (f"{REPOSITORY} (ViT-B/32) {TOLD}609 MB; license: mit")
    assert description(Download("someone/model", None, None)) == (
        f"someone/model {TOLD}of unknown size; license: not named on its page"
    )
    assert description(Download("someone/model", 2_514_000_000, "mit")).endswith("2.51 GB; license: mit")


def test_weights_that_only_pytorch_reads_are_not_fetched_without_it(
    hub: Hub, cli: Cli, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = hub.repositories[REPOSITORY]
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    monkeypatch.setattr("diptych.extras.is_importable", lambda name: name != "torch")
    said = cli(*command)
    assert said.code == FAILED
    assert f"reading the weights of {REPOSITORY}, which are in PyTorch's own form, needs torch" in said.err
    assert "pip install 'diptych[train]'" in said.err
    assert "pytorch_model.bin" not in hub.asked
