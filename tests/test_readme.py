"""Every command and every Python example of the README runs, in order, in a folder with the files that it names."""

import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diptych.scenes.scene import Scenes, write_shards
from diptych.serve.service import Service
from tests.collect.little_web import Handler, Reply, Web, has_many_loopback_addresses, image, little_web, page
from tests.conftest import Cli
from tests.drawn_archives import page as archived_page
from tests.drawn_archives import zipped
from tests.postgresql import server

pytestmark = pytest.mark.precision

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.strip()]
DATABASE = "postgresql://localhost/media"  # which the tests start
SITE = "https://example.org/gallery/"  # as well
EXAMPLES = [block for kind, block in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, one of them twice, captions.txt, pairs/, classes/, sketches/, archives/, suite.toml and a model."""
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
    (folder / "archives").mkdir()
    (folder / "archives" / "0.warc.gz").write_bytes(zipped([archived_page(0), archived_page(1)]))
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Web]:
    """A gallery of the photos, and urls.csv with their addresses."""
    if not has_many_loopback_addresses():
        pytest.skip("one loopback address")
    captions = [scene.captions[0] for scene in Scenes(6, size_px=128)]

    def gallery(web: Web, asked: Handler, path: str, query: str) -> Reply:
        if path == "/":
            return Reply(page(*(image(f"/scene-{at}.png", caption) for at, caption in enumerate(captions))))
        file = folder / "photos" / path[1:]
        return Reply(file.read_bytes(), "image/png") if file.is_file() else Reply("", "text/plain", 404)

    with little_web({"gallery": gallery}) as web:
        rows = [f"{web.url('gallery', f'/scene-{at}.png')},{caption}" for at, caption in enumerate(captions)]
        (folder / "urls.csv").write_text("\n".join(["url,caption", *rows]), encoding="utf-8")
        yield web


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
def test_commands(command: str, briefly: None, cli: Cli, request: pytest.FixtureRequest) -> None:
    """In this process: a shell would split them as shlex does, and start Python for each."""
    if DATABASE in command:
        command = command.replace(DATABASE, server().address())
    if command.startswith("diptych collect"):
        command = on_loopback(command, request.getfixturevalue("site"))
    said = cli(*shlex.split(command)[1:])
    assert said.code == 0, said.err
    assert said.out.strip()


def on_loopback(command: str, site: Web) -> str:
    """The command with a host of this machine, of which it may ask without pauses."""
    host = site.hosts["gallery"].partition(":")[0]
    command = command.replace(SITE, site.url("gallery")).replace("--domain example.org", f"--domain {host}")
    more = {"crawl": "--delay 0.01", "list": f"--i-own-these {host}"}
    return f"{command} {more.get(command.split()[2], '')}"


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
