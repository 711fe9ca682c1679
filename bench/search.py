"""Speed and recall of the search for the ten nearest of a million vectors.

    python bench/search.py [--data PAIRS ...] [--count N] [--only WHO ...] [--quick] [--json]

Without --data the vectors are synthetic (see `cones.py`): pictures in one cone, queries in another. With it they are
the bundled model's, of the pictures of these pairs, and the queries are their captions. Recall@10 is relative to exact
cosines of the float16 vectors. Each searcher has its own process and answers one query at a time, on two threads if it
can. Tunable ones take their fastest setting with a recall of 98 % on other queries, else their most thorough. "cpu ms"
is the CPU time of one query, which other programs disturb less. Searchers that are not installed are named on stderr.
--quick does everything in one process: its rows are no measurements.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cones import Cones, unit
from searchers import SEARCHERS, THREADS, installed
from steps import in_new_process
from table import Row, arguments, report

QUESTION = "The ten nearest of many vectors, one text at a time"
WANTED = 0.98
APPENDED = 1000


def main() -> None:
    """Write the vectors, then measure each searcher in its own processes."""
    parser = arguments(QUESTION)
    parser.add_argument("--data", action="append", help="pairs, as `diptych train --data` takes them; may be repeated")
    parser.add_argument("--count", type=int, help="number of synthetic vectors; 1,000,000 by default")
    parser.add_argument("--queries", type=int, help="number of queries; 500 by default")
    parser.add_argument("--only", action="append", choices=list(SEARCHERS), help="may be repeated")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)  # the work of one process: (step, who, folder)
    options = parser.parse_args()
    if options.work:
        step, who, folder = options.work
        print(json.dumps({"build": build, "ask": ask}[step](who, Path(folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        name = prepare(Path(folder), options)
        rows = [row for who in options.only or SEARCHERS for row in measured(who, Path(folder), options.quick)]
    report(f"{QUESTION}: {name}", with_ratios_by_unit(rows), as_json=options.as_json)


def prepare(folder: Path, options: argparse.Namespace) -> str:
    """Write vectors.npy, and texts for measuring, tuning and building; returns a description."""
    asked = options.queries or (20 if options.quick else 500)
    if options.data:
        pictures, texts = embedded(options.data)
        texts = texts[np.random.default_rng(0).permutation(len(texts))]
        rows = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, pictures.shape)
        rows[:] = pictures
    else:
        count = options.count or (3_000 if options.quick else 1_000_000)
        cones = Cones(count)
        texts = cones.texts(asked + 1100, seed=1)
        rows = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (count, texts.shape[1]))
        for start in range(0, count, 20_000):
            rows[start : start + 20_000] = cones.pictures(min(20_000, count - start), seed=2 + start)
    np.savez(
        folder / "texts.npz", asked=texts[:asked], tuning=texts[asked : asked + 100], building=texts[asked + 100 :]
    )
    np.savez(folder / "truth.npz", asked=nearest(rows, texts[:asked]), tuning=nearest(rows, texts[asked : asked + 100]))
    return f"{len(rows):,} of {rows.shape[1]} numbers, {'real' if options.data else 'made'}"


def embedded(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The bundled model's vectors of pictures and captions."""
    import diptych
    from diptych.data.sources.opening import open_source

    model = diptych.load()
    samples = [(sample.image, sample.captions) for name in names for sample in open_source(name)]
    pictures = model.try_embed_images(list(enumerate(image for image, _ in samples))).vectors
    texts = model.embed_texts([caption for _, captions in samples for caption in captions], truncate=True)
    return pictures, unit(texts)


def nearest(rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(queries, 10): the exact nearest rows."""
    scores, rows_found = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(rows), 20_000):
        new = queries @ rows[start : start + 20_000].astype(np.float32).T
        scores = np.hstack([scores, new])
        rows_found = np.hstack([rows_found, np.broadcast_to(np.arange(start, start + new.shape[1]), new.shape)])
        best = np.argpartition(-scores, 9, axis=1)[:, :10]
        scores, rows_found = np.take_along_axis(scores, best, 1), np.take_along_axis(rows_found, best, 1)
    return rows_found


def measured(who: str, folder: Path, quick: bool) -> list[Row]:
    """Build in one process, search in another; if `quick`, both in this one."""
    if not installed(who):
        print(f"{who}: {SEARCHERS[who].needs} is not installed, left out", file=sys.stderr)
        return []
    (folder / who).mkdir()
    said: dict[str, float] = {}
    name = who
    for step, work in (("build", build), ("ask", ask)):
        result = work(who, folder) if quick else in_new_process(__file__, step, who, folder, threads=THREADS)
        if result is None:
            return []
        name = ", ".join(filter(None, [name, str(result.pop("setting", ""))]))
        said |= result  # type: ignore[arg-type]
    return [Row(name, value, unit) for unit, value in said.items()]


def build(who: str, folder: Path) -> dict[str, object]:
    """Seconds, and megabytes on disk."""
    rows, texts = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "texts.npz")["building"]
    started_s = time.perf_counter()
    SEARCHERS[who].build(rows, texts, folder / who)
    taken_s = time.perf_counter() - started_s
    size = sum(path.stat().st_size for path in (folder / who).rglob("*") if path.is_file())
    return {"build s": taken_s, "disk MB": size / 1e6}


def ask(who: str, folder: Path) -> dict[str, object]:
    """Searching, and the time of appending."""
    searcher, texts, truth = SEARCHERS[who], np.load(folder / "texts.npz"), np.load(folder / "truth.npz")
    before = resident_mb()
    setting = searcher.open(folder / who)
    knob = tuned(searcher, texts["tuning"], truth["tuning"])
    hits, wall_ms, cpu_ms = 0, [], []
    for query, true in zip(texts["asked"], truth["asked"], strict=True):
        started_s, cpu_s = time.perf_counter(), time.process_time()
        found = searcher.search(query, knob)
        wall_ms.append((time.perf_counter() - started_s) * 1e3)
        cpu_ms.append((time.process_time() - cpu_s) * 1e3)
        hits += len(np.intersect1d(found, true))
    resident = resident_mb() - before
    more = np.load(folder / "vectors.npy", mmap_mode="r")[:APPENDED]
    started_s = time.perf_counter()
    searcher.append(more)
    append_ms = (time.perf_counter() - started_s) * 1e3
    return {
        "setting": ", ".join(filter(None, [setting, f"at {knob}" if knob else ""])),
        "recall@10": hits / truth["asked"].size,
        "p50 ms": float(np.median(wall_ms)),
        "p95 ms": float(np.quantile(wall_ms, 0.95)),
        "cpu ms": float(np.median(cpu_ms)),
        "own memory MB": resident[0],
        "mapped MB": resident[1],
        f"append {APPENDED} ms": append_ms,
    }


def tuned(searcher: object, queries: np.ndarray, truth: np.ndarray) -> int:
    """The first setting with enough recall, else the last."""
    knobs = searcher.knobs  # type: ignore[attr-defined]
    for knob in knobs:
        hits = sum(len(np.intersect1d(searcher.search(q, knob), t)) for q, t in zip(queries, truth, strict=True))  # type: ignore[attr-defined]
        if hits >= WANTED * truth.size:
            return knob
    return knobs[-1]


def resident_mb() -> np.ndarray:
    """This process's memory, including the touched pages of mapped files, which the system may reclaim."""
    status = Path("/proc/self/status")
    said = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.exists() else {}
    return np.array([int(said.get(name, "0").split()[0]) / 1e3 for name in ("RssAnon", "RssFile")])


def with_ratios_by_unit(rows: list[Row]) -> list[Row]:
    """Each value relative to the first row of the same unit."""
    first: dict[str, float] = {}
    for row in rows:
        first.setdefault(row.unit, row.value)
    return [Row(row.who, row.value, row.unit, row.value / first[row.unit] if first[row.unit] else None) for row in rows]


if __name__ == "__main__":
    main()
