"""Every command and every Python example of the README runs, in order, in a folder such as it speaks of."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.data.scenes import Scenes, write_shards

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.strip()]
EXAMPLES = [block for kind, block in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, one of them twice, captions.txt, pairs/, classes/, sketches/, suite.toml and a model folder."""
    from diptych.embedder import BUNDLED

    place = tmp_path_factory.mktemp("readme")
    (place / "photos").mkdir()
    for index, scene in enumerate(Scenes(6, size_px=128)):
        scene.image.save(place / "photos" / f"scene-{index}.png")
    shutil.copy(place / "photos" / "scene-0.png", place / "photos" / "scene-0 again.png")  # for `index duplicates`
    (place / "captions.txt").write_text("a red star\na blue fish\n", encoding="utf-8")
    for split, count in (("train", 96), ("dev", 16)):
        write_shards(place / "pairs" / split, count)
    for index, scene in enumerate(Scenes(12, seed=1, size_px=96, things=(1, 1))):
        folder = place / ("classes" if index < 8 else "sketches") / ("star", "cup")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene.image.save(folder / f"{index}.png")
    (place / "suite.toml").write_text(re.search(r"```toml\n(.*?)```", README, flags=re.DOTALL)[1])  # type: ignore[index]
    (place / "model").symlink_to(BUNDLED)
    return place


def run(arguments: list[str], place: Path, *, shell: bool = False) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "-ec", arguments[0]] if shell else arguments
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("diptych ")])
def test_commands(command: str, place: Path) -> None:
    done = run([command], place, shell=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_examples(index: int, place: Path) -> None:
    done = run([sys.executable, "-c", EXAMPLES[index]], place)
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
