"""One tiny model, a few drawn scenes, and shards made of them: what most tests need."""

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import process_state
import pytest
import torch
from hypothesis import HealthCheck, settings
from index_model import InlineReaders, PixelModel
from PIL import Image

import diptych
from diptych.checkpoint import save_folder
from diptych.cli import run
from diptych.engines.openvino import has_bfloat16
from diptych.media.preprocessing import Preprocess
from diptych.media.reading import readers
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.scenes.scene import Scenes, write_shards
from diptych.text.tokenizer import Tokenizer
from diptych.training.setup import sized

# No property depends on how fast the machine is.
settings.register_profile("diptych", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("diptych")

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # what is compiled in tests is no part of the user's cache
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp()  # nor is what they make and accept of the user's indexes

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"


@pytest.fixture(autouse=True)
def no_choice_outlives_its_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """What one test makes the program believe of the machine, no other test finds: not in a module's variables, not in
    a cache, not in the environment, not in PyTorch's settings."""
    before = process_state.snapshot()
    yield
    left = process_state.differences(before)
    assert not left, f"{request.node.nodeid} leaves to the tests after it what it made of {', '.join(left)}"


# The files that take longest, the longest first: whichever worker is free takes the next, and none is left over with
# one of these when the others are done.
LONGEST = (
    "test_fuzzing.py",
    "test_bench.py",
    "test_readme.py",
    "training/run/test_checkpoints.py",
    "training/test_trainer.py",
    "test_exporting.py",
    "nets/test_nets.py",
    "index/test_faults.py",
    "cli/test_search.py",
    "test_demo.py",
    "training/parallel/test_distributed.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all else in its order."""
    order = {TESTS / name: position for position, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_report_header() -> str:
    """In which arithmetic what chooses for itself is tested."""
    return f"arithmetic: {'bfloat16 and float32' if has_bfloat16() else 'float32; no bfloat16 here, or switched off'}"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights: vit-tiny, 32 px, with a tokenizer learnt from scene captions."""
    captions = [caption for scene in Scenes(50) for caption in scene.captions]
    tokenizer = Tokenizer.train(captions, vocab_size=600, context=40)
    torch.manual_seed(0)
    network = CLIP(sized(preset("vit-tiny"), None, tokenizer))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return save_folder(
        folder, network, tokenizer_json=tokenizer.to_json(), preprocess=Preprocess(size_px=32).to_hugging_face()
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight good pictures, one of them in a folder below."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    for index, scene in enumerate(Scenes(8, size_px=64)):
        scene.image.save(folder / ("below" if index == 7 else ".") / f"scene-{index}.png")
    return folder


@pytest.fixture(scope="session")
def indexed(pictures: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder photos/ of three pictures of different shapes, and a note, with its index."""
    folder = tmp_path_factory.mktemp("indexed") / "photos"
    (folder / "below").mkdir(parents=True)
    for number, size in enumerate(((64, 48), (48, 64), (64, 64))):
        with Image.open(pictures / f"scene-{number}.png") as picture:
            picture.resize(size).save(folder / ("below" if number == 2 else ".") / f"{number}.png")
    (folder / "notes.txt").write_text("The house is red.\n\nA blue star above it.\n")
    diptych.open_index(folder, model=tiny_model).update()
    return folder


@pytest.fixture
def several(indexed: Path, tmp_path: Path) -> Path:
    """A copy of the same, index and all."""
    return shutil.copytree(indexed, tmp_path / "photos")


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tar shards of 48 scenes each."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, 96, size_px=48, shard_size=48)
    return folder


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    """A tar of these files."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Iterator[None]:
    """Permissions count for this test, also where the tests are run by root. Name it last: what is there is handed
    over."""
    if os.name != "posix":
        pytest.skip("another system's permissions")
    if os.geteuid() != 0:
        yield
        return
    closed = {path: path.stat().st_mode for path in tmp_path.parents if not path.stat().st_mode & 0o001}
    for path, mode in closed.items():
        path.chmod(mode | 0o011)
    configuration = Path(os.environ["XDG_CONFIG_HOME"])
    configuration.mkdir(parents=True, exist_ok=True)
    for path in (tmp_path, *tmp_path.rglob("*"), configuration, *configuration.rglob("*")):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for path in (configuration, *configuration.rglob("*")):
            os.chown(path, 0, 0)
        for path, mode in closed.items():
            path.chmod(mode)


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)  # fails on anything beside the object


Cli = Callable[..., Said]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs one command line in this process."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> PixelModel:
    """A quick model in the place of any, and files that are read in this process."""
    made = PixelModel()
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    monkeypatch.setattr("diptych.embedder.load", lambda name, **options: made)
    monkeypatch.setattr("diptych.index.model._bundled_fingerprint", lambda: made.fingerprint)
    return made
