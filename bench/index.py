"""How fast is a folder of 12-megapixel photographs indexed, and how fast is an update without changes?

    python bench/index.py [--photos FOLDER] [--count N] [--unchanged N] [--folder DIR] [--model MODEL]
                          [--quick] [--json]

The photographs are synthetic: crops of those of --photos (or of scikit-image's), some mirrored, brightened, enlarged
to 4000 x 3000, with sensor noise: 500 of them, and then copies with different bytes, so that each is read and embedded
(files with equal bytes are not). --folder keeps them for the next run. Reading alone and encoding alone are measured on
the first ones in the same run; together they can reach 1 / (1 / reading + 1 / encoding) if they share the cores. The
second question is measured with --unchanged small files, whose catalog is filled with synthetic vectors. --quick makes
four small photographs and starts its processes once each: its rows are no measurements.
"""

import functools
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageChops
from table import Row, arguments, report

import diptych
from diptych.index.catalog.catalog import Catalog
from diptych.index.local import open_index
from diptych.index.model import BUNDLED
from diptych.media.images import open_image
from diptych.media.items import CatalogEntry, Details, File, FileContents
from diptych.media.reading.readers import ReaderPool
from diptych.media.scanning.image_files import find_images
from diptych.media.scanning.scan import scan

QUESTION = "A folder of photographs to an index, bundled model"
MARGIN = 500
Size = tuple[int, int]
DISTINCT = 500  # pictures; later photographs are copies with other bytes, which are read and embedded like the first
ALONE = 200  # photographs to measure reading and encoding alone


def bases(photos: str | None) -> list[Image.Image]:
    """Pictures to crop photographs from."""
    if photos:
        return [open_image(path) for path in find_images(photos)]
    return [Image.fromarray(getattr(skimage.data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")]


def make(folder: Path, photos: str | None, size: Size, numbers: range) -> None:
    """Make the photographs `numbers`, as a camera would save them, unless they exist."""
    sources, grain = bases(photos), noise(size)
    for number in numbers:
        path = photograph_path(folder, number)
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        picture = sources[int(rng.integers(len(sources)))]
        width, height = (int(side * rng.uniform(0.5, 1)) for side in picture.size)
        left, top = int(rng.integers(picture.width - width + 1)), int(rng.integers(picture.height - height + 1))
        cut = picture.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
        light = float(rng.uniform(0.8, 1.2))
        cut = cut.point([min(255, int(value * light)) for value in range(256)] * 3)
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.integers(2) else cut
        x, y = (int(each) for each in rng.integers(0, MARGIN, 2))
        cut = ImageChops.add(cut, grain.crop((x, y, x + size[0], y + size[1])), offset=-128)
        path.parent.mkdir(parents=True, exist_ok=True)
        cut.save(path.with_suffix(".part"), "JPEG", quality=88)
        path.with_suffix(".part").rename(path)


def noise(size: Size) -> Image.Image:
    """Sensor noise of six steps of 256, around 128; larger than a photograph, so that each gets another part."""
    values = np.random.default_rng(0).normal(128, 6, (size[1] + MARGIN, size[0] + MARGIN))
    return Image.merge("RGB", [Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))] * 3)


def photographs(folder: Path, photos: str | None, size: Size, count: int) -> None:
    """`count` photographs: the first DISTINCT made on all cores, the others copies with a different comment."""
    cores, distinct = os.cpu_count() or 1, min(count, DISTINCT)
    if count <= cores * 4:  # too few to start processes
        make(folder, photos, size, range(distinct))
    else:
        with ProcessPoolExecutor(cores) as pool:
            parts = [range(core, distinct, cores) for core in range(cores)]
            list(pool.map(functools.partial(make, folder, photos, size), parts))
    for number in range(distinct, count):
        path = photograph_path(folder, number)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            content, said = photograph_path(folder, number % distinct).read_bytes(), b"photograph %d" % number
            comment = b"\xff\xfe" + (len(said) + 2).to_bytes(2, "big") + said
            path.write_bytes(content[:2] + comment + content[2:])


def photograph_path(folder: Path, number: int) -> Path:
    """The path of a photograph: 500 in a folder."""
    return folder / f"{number // 500:03}" / f"photo-{number:05}.jpg"


class Memory:
    """The peak memory of this process and its children in MB, sampled ten times a second."""

    def __enter__(self) -> "Memory":
        self.most, self._over = 0.0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, sum(map(_held, _family(os.getpid()))))

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    threads = Path(f"/proc/{pid}/task").iterdir() if Path(f"/proc/{pid}/task").exists() else []
    found = {int(child) for child in children}
    for thread in threads:
        try:
            found |= set(map(int, (thread / "children").read_text().split()))
        except OSError:
            continue
    return [pid, *(each for child in found for each in _family(child))]


def _held(pid: int) -> float:
    """Proportional set size, which counts shared pages once."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def alone(folder: Path, model: diptych.Embedder, count: int) -> tuple[float, float]:
    """Photographs per second, reading alone and encoding alone."""
    files = sorted(scan(folder))[:count]
    pixels: list[np.ndarray] = []
    with ReaderPool(folder, model.preprocessing) as readers:
        list(readers.read(files[:4]))  # the processes start
        read = (part.pixels for contents in readers.read(files) for part in contents.parts)
        reading_s = timed(lambda: pixels.extend(each for each in read if each is not None))
    batch = np.stack(pixels)
    model.embed_pixels(batch[:32])
    encoding_s = timed(lambda: model.embed_pixels(batch))
    return len(files) / reading_s, len(batch) / encoding_s


def indexing(folder: Path, model: diptych.Embedder, count: int) -> list[Row]:
    """Indexing, and reading and encoding alone before and after it."""
    shutil.rmtree(folder / ".diptych", ignore_errors=True)
    before = alone(folder, model, min(count, ALONE))
    with Memory() as memory, open_index(folder, model=model) as index:
        seconds = timed(lambda: index.update())
        embedded = index.catalog.counts().pictures
    after = alone(folder, model, min(count, ALONE))
    reading, encoding = (sum(rates) / 2 for rates in zip(before, after, strict=True))
    together, slower = 1 / (1 / reading + 1 / encoding), min(reading, encoding)
    rate = embedded / seconds
    return [
        Row("reading alone (decode, hash, EXIF)", reading, "pictures/s"),
        Row("encoding alone", encoding, "pictures/s"),
        Row("what both can reach on the same cores", together, "pictures/s", together / slower),
        Row(f"diptych index, {embedded:,} photographs", rate, "pictures/s", rate / slower),
        Row("diptych index, most memory", memory.most, "MB"),
    ]


def unchanged(model: diptych.Embedder, count: int, rounds: int) -> list[Row]:
    """An update without changes."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for number in range(count):
            sub = folder / f"{number // 1000:03}"
            if not number % 1000:
                sub.mkdir()
            (sub / f"picture-{number:06}.jpg").write_bytes(b"")
            os.utime(sub / f"picture-{number:06}.jpg", (1, 1))
        rng, files = np.random.default_rng(0), sorted(scan(folder))
        catalog = Catalog.create(
            open_index(folder).catalog_path,
            fingerprint=model.fingerprint, model=BUNDLED, dim=model.dim,
        )  # fmt: skip
        vectors = rng.normal(size=(count, 1, model.dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        catalog.put(_entry(file, vector) for file, vector in zip(files, vectors.astype(np.float16), strict=True))
        catalog.close()
        with open_index(folder, model=model) as index:
            first = timed(lambda: _nothing_to_do(index))
            again = statistics.median(timed(lambda: _nothing_to_do(index)) for _ in range(rounds))
        cold = cold_search(folder, rounds)
    return [
        *(Row(f"{who}, {count:,} pictures indexed", seconds, "s from start to end") for who, seconds in cold.items()),
        Row(f"unchanged folder of {count:,} files, first update", first, "s"),
        Row(f"unchanged folder of {count:,} files, median of {rounds}", again, "s"),
    ]


def cold_search(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds of complete processes, medians of interleaved rounds: a search, and the start of peers. A peer that does
    not start, such as open_clip without torchvision, is named on stderr."""
    search = [sys.executable, "-m", "diptych", "search", "two dogs run over snow", str(folder), "--limit", "5"]
    commands = {"diptych search, a cold process": search}
    for package, first in (("torch", ""), ("open_clip", "torchvision_operators, ")):
        if importlib.util.find_spec(package):
            commands[f"import {package} alone"] = [sys.executable, "-c", f"import {first}{package}"]
    spent: dict[str, list[float]] = {who: [] for who in commands}
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # bytecode is cached, as for an installed package
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    for who, command in commands.items():  # which compiles
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            print(f"{who}: left out ({done.stderr.strip().splitlines()[-1]})", file=sys.stderr)
            del spent[who]
    for _ in range(rounds):
        for who in spent:
            run = functools.partial(subprocess.run, commands[who], capture_output=True, check=True, env=environment)
            spent[who].append(timed(run))
    return {who: statistics.median(times) for who, times in spent.items()}


def _entry(file: File, vector: np.ndarray) -> CatalogEntry:
    from diptych.media.items import Part

    pixels = np.zeros((1, 1, 3), np.uint8)
    digest = file.path.encode().ljust(16, b"\0")[-16:]
    return CatalogEntry(FileContents(file, digest, Details(width=640, height=480), (Part(pixels=pixels),)), vector)


def _nothing_to_do(index: diptych.index.local.LocalIndex) -> None:  # type: ignore[name-defined]
    done = index.update()
    assert done.is_unchanged, done


def main() -> None:
    """Measure and report."""
    parser = arguments(QUESTION)
    parser.add_argument("--photos", help="photographs to crop from")
    parser.add_argument("--count", type=int, help="how many to make (5,000)")
    parser.add_argument("--unchanged", type=int, help="files of the folder that does not change (100,000)")
    parser.add_argument("--folder", help="where to keep the photographs")
    parser.add_argument("--model", help="a model; by default the bundled one")
    options = parser.parse_args()
    count = options.count or (4 if options.quick else 5000)
    files = options.unchanged or (200 if options.quick else 100_000)
    size, rounds = ((640, 480), 1) if options.quick else ((4000, 3000), 7)
    model = diptych.load(options.model)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(options.folder or work) / "photographs"
        photographs(folder, options.photos, size, count)
        rows = indexing(folder, model, count)
    rows += unchanged(model, files, rounds)
    report(f"{QUESTION}: {size[0]} x {size[1]} pixels", rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
