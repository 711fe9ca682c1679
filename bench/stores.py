"""A million vectors in an index on disk, in PostgreSQL with pgvector and in Milvus Lite: what each costs and finds.

    python bench/stores.py [--count N] [--queries N] [--only WHO ...] [--keep FOLDER] [--quick] [--json]

The vectors are those of `cones.py`: pictures in one cone, queries across the modality gap in another. Every item is in
one of a hundred folders, and the filtered queries each search another folder. Recall@10 is relative to exact cosines of
the float16 vectors. Each store is loaded and indexed in one process and searched in the next, one query at a time, with
nothing else running. A search is what a user of the store calls: ours selects by the filters each time. Every folder is
searched once before, which has a row of its own, for a store may keep what passes. Of all settings of a store the one
with the least median time at a recall of 98 % is taken, measured on the same queries that it is reported of; without
such a one, that of the best recall. Ours has one setting. Appending ends when the rows are in the store for good, as it
promises that, and is followed by a search that must find one of them. Processor time is that of the store's processes
and of the one that asks, a query, and of a build.

--keep has a folder that stays: what is done in it is not done again. Stores that are not installed are named on stderr.
--quick does everything in one process: its rows are no measurements.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from cones import Cones
from search import nearest
from steps import in_new_process
from stored import FOLDERS, STORES, folder_of, memory, missing
from table import Row, arguments, report

QUESTION = "The ten nearest of a million vectors in three stores"
WANTED = 0.98
APPENDED = 1000
THREADS = 2
WARMING_S = 2  # of queries before each measurement
LONGEST_S = 60  # of a measurement; a slow store gets fewer queries
TRIED = 30  # queries by which a setting is given up
FAR = 0.9  # of the wanted recall, at which it is given up
PEAK_S = 3  # between two looks at the memory, each of which takes milliseconds


def main() -> None:
    """Write the vectors, then measure each store in its own processes."""
    parser = arguments(QUESTION)
    parser.add_argument("--count", type=int, help="number of vectors; 1,000,000 by default")
    parser.add_argument("--queries", type=int, help="number of queries; 300 by default")
    parser.add_argument("--only", action="append", choices=list(STORES), help="may be repeated")
    parser.add_argument("--keep", type=Path, help="a folder in which vectors, stores and results stay")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)  # the work of one process: (step, who, folder)
    options = parser.parse_args()
    if options.work:
        step, who, folder = options.work
        print(json.dumps(STEPS[step](who, Path(folder))))
        return
    count = options.count or (3_000 if options.quick else 1_000_000)
    queries = options.queries or (20 if options.quick else 300)
    with tempfile.TemporaryDirectory(prefix="stores-") as made:
        folder = options.keep or Path(made)
        for path in (folder, Path(made)):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)  # PostgreSQL does not run as root, and must reach its own folder
        prepare(folder, count, queries)
        said = {who: done for who in options.only or STORES if (done := measured(who, folder, options.quick))}
    inputs = {"vectors": count, "queries": queries} | {who: of["settings"] for who, of in said.items()}
    report(QUESTION, rows_of(said), as_json=options.as_json, inputs=inputs)


def prepare(folder: Path, count: int, queries: int) -> None:
    """Write vectors.npy, more.npy to append, and queries.npz with their true neighbours, in all and in one folder."""
    if (folder / "queries.npz").exists():
        return
    cones = Cones(count)
    asked = cones.texts(queries, seed=1)
    rows = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (count, asked.shape[1]))
    for start in range(0, count, 20_000):
        rows[start : start + 20_000] = cones.pictures(min(20_000, count - start), seed=2 + start)
    np.save(folder / "more.npy", cones.pictures(APPENDED, seed=1).astype(np.float16))
    ids, folders = np.arange(1, count + 1), np.arange(queries) % FOLDERS
    inside = np.empty((queries, 10), np.int64)
    for one in np.unique(folders):
        those = np.flatnonzero(folder_of(ids) == one)
        inside[folders == one] = ids[those[nearest(np.asarray(rows[those]), asked[folders == one])]]
    truth = nearest(rows, asked) + 1
    np.savez(folder / "queries.npz", asked=asked, folders=folders, truth=truth, inside=inside)


def measured(who: str, folder: Path, quick: bool) -> dict[str, Any]:
    """What both steps say, each in a process of its own; if `quick`, in this one. Empty if one of them fails."""
    if absent := missing(who):
        print(f"{who}: {', '.join(absent)} is not installed, left out", file=sys.stderr)
        return {}
    said: dict[str, Any] = {}
    own = folder / who.replace(" ", "-")
    own.mkdir(exist_ok=True)
    for step, work in STEPS.items():
        kept = own.with_suffix(f".{step}.json")
        if not kept.exists():
            result = work(who, folder) if quick else in_new_process(__file__, step, who, folder, threads=THREADS)
            if result is None:
                return {}
            kept.write_text(json.dumps(result))
        said |= json.loads(kept.read_text())
    return said


def build(who: str, folder: Path) -> dict[str, Any]:
    """Seconds to load all and to index it, and the most memory meanwhile."""
    store = STORES[who](folder / who.replace(" ", "-"))
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    store.open()
    peak = Peak(store.pids)
    before_s, started_s = processor_s(store.pids()), time.perf_counter()
    store.load(vectors)
    loaded_s = time.perf_counter()
    store.index()
    ended_s = time.perf_counter()
    most_mb, cpu_s = peak.stop(), processor_s(store.pids()) - before_s
    store.close()
    return {
        "load s": loaded_s - started_s, "index s": ended_s - loaded_s, "cpu s of both": cpu_s,
        "peak memory of both MB": most_mb,
    }  # fmt: skip


class Peak:
    """The most memory of processes, looked at every PEAK_S seconds."""

    def __init__(self, pids: Any):
        self._pids, self._most_mb, self._end = pids, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            self._most_mb = max(self._most_mb, memory(self._pids()).own_mb)
            if self._end.wait(PEAK_S):
                return

    def stop(self) -> float:
        self._end.set()
        self._thread.join()
        return self._most_mb


def ask(who: str, folder: Path) -> dict[str, Any]:
    """Searching, memory after it, disk, and appending."""
    store = STORES[who](folder / who.replace(" ", "-"))
    given = np.load(folder / "queries.npz")
    store.open()
    asked, folders = given["asked"], given["folders"].tolist()
    plain = best(store, store.families, store.search, [(query,) for query in asked], given["truth"])
    pairs = list(zip(asked, folders, strict=True))
    first_ms = first_time(store, pairs[:FOLDERS])
    filtered = best(store, store.filtered_families, store.search_in, pairs, given["inside"])
    resident, disk_mb = memory(store.pids()), store.disk_mb()
    store.use(plain["setting"])
    more, count = np.load(folder / "more.npy"), len(np.load(folder / "vectors.npy", mmap_mode="r"))
    ids = np.arange(count + 1, count + 1 + len(more))
    started_s = time.perf_counter()
    store.append(ids, more)
    append_ms = (time.perf_counter() - started_s) * 1e3
    is_found = int(ids[-1]) in store.search(more[-1].astype(np.float32))
    store.remove(ids)
    store.close()
    if not is_found:
        print(f"{who}: a row that was appended is not found", file=sys.stderr)
    return {
        "disk MB": disk_mb, "own memory MB": resident.own_mb, "mapped MB": resident.mapped_mb,
        "recall@10": plain["recall"], "p50 ms": plain["p50 ms"], "p95 ms": plain["p95 ms"], "cpu ms": plain["cpu ms"],
        "filtered, first time p50 ms": first_ms, "filtered recall@10": filtered["recall"],
        "filtered p50 ms": filtered["p50 ms"], "filtered p95 ms": filtered["p95 ms"],
        "filtered cpu ms": filtered["cpu ms"], f"append {APPENDED} ms": append_ms,
        "settings": {"tried": plain["tried"], "tried, filtered": filtered["tried"], "appended is found": is_found},
    }  # fmt: skip


def first_time(store: Any, pairs: list[tuple[np.ndarray, int]]) -> float:
    """The median time of a query in a folder that has not been searched before."""
    store.use(store.filtered_families[0][0])
    times_ms, end_s = list[float](), time.perf_counter() + LONGEST_S
    for pair in pairs:
        started_s = time.perf_counter()
        store.search_in(*pair)
        times_ms.append((time.perf_counter() - started_s) * 1e3)
        if time.perf_counter() > end_s:
            break
    return float(np.median(times_ms))


def best(
    store: Any, families: list[list[Any]], search: Any, questions: list[tuple], truth: np.ndarray
) -> dict[str, Any]:
    """The setting with enough recall that is fastest; without any, that of the best recall. In a family of settings,
    later ones are slower, so that the first with enough recall is its fastest."""
    tried: list[dict[str, Any]] = []
    for family in families:
        for setting in family:
            store.use(setting)
            tried.append({"setting": setting, **timed(store, search, questions, truth)})
            print(f"{type(store).__name__}: {tried[-1]}", file=sys.stderr)
            if tried[-1]["recall"] >= WANTED:
                break
    enough = [one for one in tried if one["recall"] >= WANTED]
    chosen = min(enough, key=lambda one: one["p50 ms"]) if enough else max(tried, key=lambda one: one["recall"])
    return {**chosen, "tried": [{**one, "setting": str(one["setting"])} for one in tried]}


def timed(store: Any, search: Any, questions: list[tuple], truth: np.ndarray) -> dict[str, Any]:
    """Recall and times of all questions; of the first ones alone where these find too little, or take too long."""
    end_s = time.perf_counter() + WARMING_S
    for question in questions[:TRIED]:
        search(*question)
        if time.perf_counter() > end_s:
            break
    hits, wall_ms, end_s = 0, list[float](), time.perf_counter() + LONGEST_S
    before_s = processor_s(store.pids())
    for at, (question, true) in enumerate(zip(questions, truth, strict=True), 1):
        started_s = time.perf_counter()
        found = search(*question)
        wall_ms.append((time.perf_counter() - started_s) * 1e3)
        hits += len(np.intersect1d(found, true))
        if (at == TRIED and hits < FAR * WANTED * 10 * at) or time.perf_counter() > end_s:
            break
    cpu_ms = (processor_s(store.pids()) - before_s) * 1e3 / len(wall_ms)
    median, slow = np.quantile(wall_ms, [0.5, 0.95]).tolist()
    recall = hits / (10 * len(wall_ms))
    return {"recall": recall, "p50 ms": median, "p95 ms": slow, "cpu ms": cpu_ms, "queries": len(wall_ms)}


def processor_s(pids: list[int]) -> float:
    """Processor time of these processes and of this one, of their threads, and of children that have ended."""
    times = [psutil.Process(pid).cpu_times() for pid in {*pids, os.getpid()} if psutil.pid_exists(pid)]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


def rows_of(said: dict[str, dict[str, Any]]) -> list[Row]:
    """Each value, relative to the first store's."""
    rows, first = list[Row](), dict[str, float]()
    for who, values in said.items():
        for unit, value in values.items():
            if unit != "settings":
                base = first.setdefault(unit, value)
                rows.append(Row(who, float(value), unit, value / base if base else None))
    return rows


STEPS = {"build": build, "ask": ask}

if __name__ == "__main__":
    main()
