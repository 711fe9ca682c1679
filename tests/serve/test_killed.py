"""A process that is killed while it updates the index that is served: the server that did, and another program."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from diptych.index.doctor import examine

ADDED = 200  # an update commits 64 at a time


def add_pictures(folder: Path) -> None:
    """So many that an update takes a while. They differ by bytes behind their end, which a reader ignores."""
    Image.effect_noise((700, 700), 80).save(file := io.BytesIO(), "JPEG")
    (folder / "added").mkdir()
    for number in range(ADDED):
        (folder / "added" / f"{number:03}.jpg").write_bytes(file.getvalue() + number.to_bytes(2, "big"))


def found_before(client: TestClient) -> list[dict]:
    """The hits of a search among the pictures that were there, but for how they stand among all."""
    hits = client.get("/v1/search", params={"q": "a red house", "path": "[0-9].png"}).json()["hits"]
    return [{**hit, "z": None} for hit in hits]


@pytest.mark.parametrize("command", ["serve", "index"])
def test_a_killed_update_costs_no_answer_and_leaves_the_index_whole(
    serve, several: Path, tiny_model: Path, tmp_path: Path, command: str
) -> None:
    client = serve(several)
    before = found_before(client)
    assert {hit["path"] for hit in before} == {"0.png", "1.png", "below/2.png"}
    add_pictures(several)
    more = ["--port", "0"] if command == "serve" else []
    line = [sys.executable, "-m", "diptych", command, str(several), "--model", str(tiny_model), *more]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while client.get("/v1/index").json()["pictures"] == 3:  # until its first commit is served
            assert process.poll() is None, process.stdout and process.stdout.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert found_before(client) == before
    assert examine(several) == []
    restarted = serve(several)
    assert found_before(restarted) == before
    assert 3 < restarted.get("/v1/index").json()["pictures"] < 3 + ADDED, "it was killed within"
    assert restarted.post("/v1/index/update").status_code == 202
    while (state := restarted.get("/v1/index").json())["pictures"] < 3 + ADDED or state["state"] != "idle":
        assert state["error"] is None, json.dumps(state)
        time.sleep(0.01)
    assert found_before(restarted) == before == found_before(client)
    assert examine(several) == []
