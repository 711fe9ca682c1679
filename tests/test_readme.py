"""Every command and every Python example of the README runs, in order, in a folder with the files that it names."""

import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.scenes.scene import Scenes, write_shards
from diptych.serve.service import Service
from tests.conftest import Cli
from tests.postgresql import server

pytestmark = pytest.mark.precision

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.strip()]
DATABASE = "postgresql://localhost/media"  # which the tests start
EXAMPLES = [block for kind, block in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, one of them twice, captions.txt, pairs/, classes/, sketches/, suite.toml and a model folder."""
    from diptych.embedder import BUNDLED

    folder = tmp_path_factory.mktemp("readme")
    (folder / "photos").mkdir()
    for index, scene in enumerate(Scenes(6, size_px=128)):
        scene.image.save(folder / "photos" / f"scene-{index}.png")
    shutil.copy(folder / "photos" / "scene-0.png", folder / "photos" / "scene-0 again.png")  # for `index duplicates`
    (folder / "captions.txt").write_text("a red star\na blue fish\n", encoding="utf-8")
    for split, count in (("train", 96), ("dev", 16)):
        write_shards(folder / "pairs" / split, count)
    for index, scene in enumerate(Scenes(12, seed=1, size_px=96, things=(1, 1))):
        class_folder = folder / ("classes" if index < 8 else "sketches") / ("star", "cup")[index % 2]
        class_folder.mkdir(parents=True, exist_ok=True)
        scene.image.save(class_folder / f"{index}.png")
    (folder / "suite.toml").write_text(re.search(r"```toml\n(.*?)```", README, flags=re.DOTALL)[1])  # type: ignore[index]
    (folder / "model").symlink_to(BUNDLED)
    return folder


@pytest.fixture
def briefly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In that folder; measurements of a rate take a moment, and a server ends as soon as it could answer."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("diptych.serve.running.serve", start_and_end)
    monkeypatch.setattr("diptych.serve.running.bound", lambda *_: None)  # port 8000 may be taken
    for name in ("diptych.data.inspection.loader_rate", "diptych.training.diagnostics.throughput.training_throughput"):
        module, _, function = name.rpartition(".")
        measure = getattr(importlib.import_module(module), function)
        monkeypatch.setattr(name, functools.partial(measure, seconds=0.05, batch_size=8))


def start_and_end(service: Service, on_start: Callable[[str], None], **_: object) -> None:
    on_start("http://127.0.0.1:8000/")
    service.close()


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("diptych ")])
def test_commands(command: str, briefly: None, cli: Cli) -> None:
    """In this process: a shell would split them as shlex does, and start Python for each."""
    if DATABASE in command:
        command = command.replace(DATABASE, server().address())
    said = cli(*shlex.split(command)[1:])
    assert said.code == 0, said.err
    assert said.out.strip()


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_examples(index: int, briefly: None, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLES[index], f"README example {index}", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_a_command_in_a_shell(folder: Path) -> None:
    """As installed: a program of this name on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "-ec", next(line for line in COMMANDS if line.startswith("diptych search"))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_other_commands_are_make_targets() -> None:
    """`make test` is what runs this; `make demo` is run by tests/test_demo.py."""
    others = [line.split("#")[0].strip() for line in COMMANDS if not line.startswith("diptych ")]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert others == ["make demo", "make test"]
    for line in others:
        assert f"\n{line.removeprefix('make ')}:" in makefile


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
