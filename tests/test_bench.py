"""Every benchmark speaks alike: --quick, --json, one object."""

import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.drawn_wordnet import write_wordnet

BENCH = Path(__file__).parent.parent / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if "def main" in path.read_text(encoding="utf-8"))
# Scripts that run with any model, here with a tiny one; the others show that the bundled model is the default.
ANY_MODEL = (
    "classify.py", "index.py", "locate.py", "models.py", "multi_label.py", "photographs.py", "pointing.py", "recall.py",
    "relevance.py", "scenes.py", "shards.py", "words.py",
)  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_quick_json_has_one_object(
    name: str,
    shards: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: a script alone would first import PyTorch."""
    if name == "page.py" and shutil.which("chromium") is None:
        pytest.skip("no chromium here")
    more = {
        "recall.py": ["--data", str(shards)],
        "learning.py": ["--threads", str(torch.get_num_threads())],
        "words.py": ["--data", str(shards), "--wordnet", str(write_wordnet(tmp_path))],
    }.get(name, [])
    if name in ANY_MODEL:
        more += ["--model", str(tiny_model)]
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setattr("searchers.THREADS", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", [name, "--quick", "--json", *more])
    script = imported(name, monkeypatch)
    capsys.readouterr()
    script.main()
    is_one_object(capsys.readouterr().out)


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCH)
    spec = importlib.util.spec_from_file_location(f"bench_{Path(name).stem}", BENCH / name)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)
    spec.loader.exec_module(script)
    return script


def is_one_object(out: str) -> None:
    said = json.loads(out)
    assert said.keys() - {"inputs"} == {"question", "machine", "rows"}
    assert said["rows"]
    assert all(row.keys() == {"who", "value", "unit", "ratio"} for row in said["rows"])


def test_a_benchmark_is_a_script() -> None:
    command = [sys.executable, str(BENCH / "crossings.py"), "--quick", "--json"]
    is_one_object(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("said", [True, False])
def test_the_client_opens_a_connection_again_if_the_server_said_that_it_closes(
    said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Flask's server does after each answer. A connection that is closed without a word is a failure."""

    class Closing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            if said:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"ok")
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    client = imported("http_load.py", monkeypatch)
    with ThreadingHTTPServer(("127.0.0.1", 0), Closing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            requests = [client.get(address, "/")]
            if said:
                assert len(client.drive(address, requests, connections=2, seconds=0.5).latencies_s) > 2
            else:
                with pytest.raises(RuntimeError, match="the connection was closed"):
                    client.drive(address, requests, connections=2, seconds=0.5)
        finally:
            server.shutdown()


def test_every_benchmark_is_in_the_page() -> None:
    page = (BENCH.parent / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert SCRIPTS
    assert all(f"bench/{name}" in page for name in SCRIPTS)


def test_pairs_are_nouns_that_captions_lack_with_a_lemma_that_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the drawn synsets: "puppies" is seen as "puppy", "kitty" has no lemma in the captions, "canine" is a lemma of
    "dog" in another sense than its most frequent, "Fido" is a name."""
    words, folder = imported("words.py", monkeypatch), str(write_wordnet(tmp_path))
    captions = ["Two dogs and puppies.", "A dog on a sofa", "a boat is barking while dogs run"]
    found = words.pairs(captions, folder, seed=0)
    assert {(one.word, one.answers) for one in found} == {
        ("hound", ("dog",)),
        ("couch", ("sofa",)),
        ("pup", ("puppy",)),
    }
    assert words.pairs(captions, folder, seed=0) == found
    assert words.pairs(captions, folder, seed=0, count=2) == found[:2]


def test_hypernyms_are_above_nouns_without_a_known_synonym(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, folder = imported("words.py", monkeypatch), write_wordnet(tmp_path)
    net = words.wordnet.read(folder)
    known = words.vocabulary(["dogs, an animal and a sofa"], net)
    assert known.candidates == ["animal", "dog", "sofa"]
    assert set(words.hypernyms(net, known, 0, 9)) == {("puppy", ("dog", "animal")), ("cat", ("animal",))}


def test_a_slip_is_one_letter_away_and_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = imported("words.py", monkeypatch)
    net = words.wordnet.read(write_wordnet(tmp_path))
    known = words.vocabulary(["an animal, a puppy and a couch"], net)
    for seed in range(50):
        for slip, (word,) in words.slips(net, known, seed, 9):
            assert slip not in net.senses
            assert abs(len(slip) - len(word)) <= 1
            assert sorted(slip) == sorted(word) or sum((a != b) for a, b in zip(slip, word, strict=False)) > 0


def test_wordnet_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="wordnet-base"):
        imported("words.py", monkeypatch).pairs(["a dog"], str(tmp_path))
