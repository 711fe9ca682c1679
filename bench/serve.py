"""How fast are texts and pictures embedded, and pictures found, by many programs that ask one server?

    python bench/serve.py [--infinity PYTHON] [--clip-retrieval PYTHON] [--rounds N] [--seconds S] [--connections N]
        [--pictures N] [--quick] [--json]

Servers and the client share this machine: give them two cores with `taskset -c 0,1`. The client is one thread of this
process, each of its connections sends its next request when its last is answered, and its own processor time is small
and subtracted where that is said.

Embedding: ViT-B/32 with random weights in a folder of Hugging Face's form, captions of drawn scenes one by one, and
JPEGs of 640 x 480 pixels as data URIs, in OpenAI's form with vectors in base64, as OpenAI's own client asks. The peer
is infinity (`pip install infinity-emb` in an environment of its own, whose python is --infinity). All servers run at
once and are asked in turns, so that a slow moment of the machine affects all.

Searching: 60 hits for captions in an index of --pictures files with random vectors, the bundled model. The peers are
a plain FastAPI service around the same index, and clip-retrieval's back end with the same vectors (see
clip_retrieval_service.py; --clip-retrieval is the python of its environment). Then the server is killed, and it is
measured how soon a new one gives the same answer. --quick has a small model and no peer but those named, and its rows
are no measurements.
"""

import base64
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from clip_retrieval_service import clip_retrieval_services, question
from http_load import Load, drive
from linked_library import library
from services import Service, diptych_service, infinity_service, plain_service, running
from table import Row, arguments, report

import diptych
from diptych.checkpoint import save_folder
from diptych.exporting import export
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.scenes.scene import draw_scene
from diptych.text.tokenizer import Tokenizer
from diptych.training.optim.precision import has_bfloat16

QUESTION = "Answers a second of a server that many ask at once"
SCENES, CALIBRATED, WARM_S = 250, 32, 3.0
Asked = dict[str, Sequence[Any]]  # by what is asked: the bodies or paths of requests


def drawn(count: int) -> tuple[list[str], list[bytes]]:
    """Captions of scenes, and the first CALIBRATED of these as JPEG files."""
    scenes = [draw_scene(seed, size_px=64, split="train") for seed in range(count)]
    files = []
    for seed in range(min(count, CALIBRATED)):
        image = draw_scene(seed, size_px=640, split="train").image.crop((0, 0, 640, 480))
        image.convert("RGB").save(file := io.BytesIO(), "JPEG", quality=90)
        files.append(file.getvalue())
    return [caption for scene in scenes for caption in scene.captions], files


def random_model(folder: Path, name: str, captions: Sequence[str]) -> Path:
    """The folder of a model."""
    torch.manual_seed(0)
    config, spec = preset(name), Preprocess(preset(name).image.image_size)
    tokenizer = Tokenizer.train(captions, vocab_size=config.text.vocab_size, context=config.text.context)
    if name == "vit-tiny":  # it finds the end of a text by the last id
        config = replace(config, text=replace(config.text, vocab_size=tokenizer.vocab_size, end_id=tokenizer.end_id))
    files: Any = {"tokenizer_json": tokenizer.to_json(), "preprocess": spec.to_hugging_face()}
    return save_folder(folder, CLIP(config), **files)


def body(kind: str, value: str) -> dict[str, Any]:
    """The fields of a request for one vector."""
    return {"model": "bench", "input": [value], "modality": kind, "encoding_format": "base64"}


def embedding_services(model: Path, files: Sequence[bytes], infinity: str | None, quick: bool) -> list[Service]:
    """infinity's first, if it is there; ours in each precision that this processor has."""
    probe, options = body("text", "a dog"), ["--model", str(model)]
    found = [infinity_service(infinity, model, probe)] if infinity else []
    found.append(diptych_service("diptych, float32", probe, options, bfloat16=False))
    if quick:
        return found
    if has_bfloat16(torch.device("cpu")):
        found.append(diptych_service("diptych, bfloat16", probe, options, bfloat16=True))
    pictures = model.with_name("pictures")
    pictures.mkdir()
    for number, content in enumerate(files):
        (pictures / f"{number}.jpg").write_bytes(content)
    int8 = model.with_name("int8")
    with redirect_stdout(sys.stderr):  # NNCF draws bars
        export(model, int8, precision="int8", calibrate=pictures)
    return [*found, diptych_service("diptych, int8", probe, ["--model", str(int8)], bfloat16=True)]


class Measured:
    """The loads of services, by what was asked, in rounds."""

    def __init__(self, services: Sequence[Service], options: Any):
        self.services, self.options = services, options
        self.loads: dict[tuple[str, str], list[Load]] = {}
        self.processor_ms: dict[tuple[str, str], list[float]] = {}

    def round(self, what: str, asked: Sequence[Any]) -> None:
        """Ask each service for so many seconds."""
        for service in self.services:
            requests = [service.request(each) for each in asked]
            if (service.name, what) not in self.loads:
                self._drive(service, requests, min(WARM_S, self.options.seconds))
            before = service.processor_s()
            load = self._drive(service, requests, self.options.seconds)
            spent = 1000 * (service.processor_s() - before) / (len(load.latencies_s) + self.options.connections)
            self.loads.setdefault((service.name, what), []).append(load)
            self.processor_ms.setdefault((service.name, what), []).append(spent)

    def _drive(self, service: Service, requests: Sequence[bytes], seconds: float) -> Load:
        load = drive(service.address, requests, connections=self.options.connections, seconds=seconds)
        service.wait_until_idle()
        return load

    def rate(self, name: str, what: str) -> float:
        """The median of its rounds."""
        return statistics.median(load.rate for load in self.loads[name, what])

    def latency_ms(self, name: str, what: str, percent: float) -> float:
        """Of all answers."""
        found = [each for load in self.loads[name, what] for each in load.latencies_s]
        return 1000 * float(np.percentile(found, percent)) if found else float("nan")

    def client_share(self, name: str, what: str) -> float:
        """Of the machine's processor time."""
        spent = statistics.median(load.client_s / load.seconds for load in self.loads[name, what])
        return spent / len(os.sched_getaffinity(0))

    def rows(self, what: str) -> list[Row]:
        """All about what was asked, each compared with the first service."""
        units: dict[str, Callable[[str], float]] = {
            f"{what}/s": lambda name: self.rate(name, what),
            f"ms, p50 of {what}": lambda name: self.latency_ms(name, what, 50),
            f"ms, p99 of {what}": lambda name: self.latency_ms(name, what, 99),
            f"processor ms for one of the {what}": lambda name: statistics.median(self.processor_ms[name, what]),
        }
        found = [(unit, {each.name: value(each.name) for each in self.services}) for unit, value in units.items()]
        return [row for unit, values in found for row in compared(unit, values)]


def compared(unit: str, values: dict[str, float]) -> list[Row]:
    """A row for each service, with its ratio to the first."""
    first = next(iter(values.values()))
    return [Row(name, value, unit, value / first if len(values) > 1 else None) for name, value in values.items()]


def engine_rates(model: Path, asked: Asked, files: Sequence[bytes], seconds: float) -> dict[str, float]:
    """What the engine reaches in this process, in float32, with tokenising and decoding."""
    engine = diptych.load(model, engine="openvino", precision="float32")
    texts = [fields["input"][0] for fields in asked["texts"]]
    works = {
        "texts": lambda at: len(engine.embed_texts(texts[at % len(texts) :][:64])),
        "pictures": lambda at: len(engine.embed_images(files, decode="fast")),
    }
    return {what: _per_second(work, seconds) for what, work in works.items()}


def _per_second(work: Callable[[int], int], seconds: float) -> float:
    work(0)
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < seconds:
        done += work(done)
    return done / (time.perf_counter() - began)


def embedding(model: Path, captions: Sequence[str], files: Sequence[bytes], options: Any) -> list[Row]:
    """Texts and pictures one by one, memory, and the share of the engine's rate."""
    uris = [f"data:image/jpeg;base64,{base64.b64encode(content).decode()}" for content in files]
    asked: Asked = {"texts": [body("text", each) for each in captions], "pictures": [body("image", u) for u in uris]}
    services = embedding_services(model, files, options.infinity, options.quick)
    engine: dict[str, list[float]] = {what: [] for what in asked}
    with running(services):
        measured = Measured(services, options)
        for _ in range(options.rounds):
            for what, bodies in asked.items():
                measured.round(what, bodies)
            for what, rate in engine_rates(model, asked, files, options.seconds).items():
                engine[what].append(rate)
        memory = compared("MB in memory", {each.name: each.memory_mb() for each in services})
    rows = measured.rows("texts") + measured.rows("pictures") + memory
    for what, rates in engine.items():
        name, rate = "diptych, float32", statistics.median(rates)
        share = measured.rate(name, what) / rate / (1 - measured.client_share(name, what))
        rows += [
            Row("its engine in one process", rate, f"{what}/s"),
            Row("the client", 100 * measured.client_share(name, what), f"% of the processors, {what}"),
            Row(f"{name}: of the engine's rate, less the client's time", 100 * share, f"% of {what}"),
        ]
    return rows


def searching(work: Path, captions: Sequence[str], options: Any) -> list[Row]:
    """Searches by text, and a server that was killed."""
    folder = work / "photographs"
    library(folder, options.pictures)
    paths = [f"/v1/search?limit=60&q={quote(each)}" for each in captions]
    ours = diptych_service("diptych serve", paths[0], [str(folder), "--no-update"], bfloat16=True)
    ours.environment["XDG_CACHE_HOME"] = str(work / "cache")
    asked: list[tuple[Service, Sequence[Any]]] = [(ours, paths)]
    if not options.quick:
        plain = [path.removeprefix("/v1") for path in paths]
        asked.insert(0, (plain_service(folder, plain[0]), plain))
    if python := options.clip_retrieval:
        peers = clip_retrieval_services(python, work, captions, pictures=options.pictures, quick=options.quick)
        asked = [(each, [question(caption) for caption in captions]) for each in peers] + asked
    services = [each for each, _ in asked]
    with running(services):
        measured = Measured([], options)
        for _ in range(options.rounds):
            for each, requests in asked:
                measured.services = [each]
                measured.round("searches", requests)
        measured.services = services
        rows = measured.rows("searches")
        rows += [
            Row(f"{each.name}: p99 by p50", measured.latency_ms(each.name, "searches", 99)
                / measured.latency_ms(each.name, "searches", 50), "x")
            for each in services
        ]  # fmt: skip
        rows += compared("MB in memory, searching", {each.name: each.memory_mb() for each in services})
        return [*rows, Row("diptych serve: killed, to the same answer", restarted(ours, paths[0]), "s")]


def restarted(service: Service, path: str) -> float:
    """Seconds from SIGKILL to the answer that a server gave before."""
    before = hits(service.ask(path))
    began = time.perf_counter()
    service.end(kill=True)
    after = hits(service.start())
    spent = time.perf_counter() - began
    if before != after:
        raise RuntimeError(f"another answer after a restart: {before} and {after}")
    return spent


def hits(answer: bytes | None) -> list[tuple[int, float]]:
    """Ids and scores."""
    return [(hit["id"], hit["score"]) for hit in json.loads(answer or b"{}")["hits"]]


def main() -> None:
    """Measure and report."""
    parser = arguments(QUESTION)
    parser.add_argument("--infinity", metavar="PYTHON", help="the python of an environment with infinity-emb")
    parser.add_argument("--clip-retrieval", metavar="PYTHON", help="the python of an environment with clip-retrieval")
    parser.add_argument("--rounds", type=int, help="of all services (3)")
    parser.add_argument("--seconds", type=float, help="that each is asked in a round (10)")
    parser.add_argument("--connections", type=int, help="at once (64)")
    parser.add_argument("--pictures", type=int, help="of the index that is searched (100,000)")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.3 if options.quick else 10.0)
    options.connections = options.connections or (4 if options.quick else 64)
    options.pictures = options.pictures or (40 if options.quick else 100_000)
    captions, files = drawn(4 if options.quick else SCENES)
    with tempfile.TemporaryDirectory() as work:
        model = random_model(Path(work) / "model", "vit-tiny" if options.quick else "ViT-B/32", captions)
        rows = embedding(model, captions, files, options) + searching(Path(work), captions, options)
    asked = f"{options.connections} connections, {options.pictures:,} pictures"
    report(f"{QUESTION}: {asked}", rows, as_json=options.as_json, inputs=vars(options))


if __name__ == "__main__":
    main()
