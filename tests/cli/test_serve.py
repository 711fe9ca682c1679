"""diptych serve"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import Cli


def asked(address: str) -> dict:
    with urllib.request.urlopen(address, timeout=300) as answer:
        return json.load(answer)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_folder_without_an_index_is_served_and_sigterm_ends_it_in_order(pictures: Path, tiny_model, tmp_path) -> None:
    """The whole command once: it indexes in the background, answers, and ends with code 0."""
    command = [
        sys.executable,
        "-m",
        "diptych",
        "serve",
        pictures,
        "--index",
        tmp_path / "index",
        "--port",
        "0",
        "--json",
    ]
    process = subprocess.Popen([*command, "--model", tiny_model], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["address"]
        with urllib.request.urlopen(address + "v1/events", timeout=300) as events:
            for line in events:
                if line.startswith(b"data: ") and (state := json.loads(line[6:])).get("state") == "idle":
                    break
        assert (state["files"], state["pictures"]) == (8, 8)
        hits = asked(f"{address}v1/search?q=a+house&limit=5")["hits"]
        assert len(hits) == 5
        with urllib.request.urlopen(address + hits[0]["thumbnail"][1:], timeout=300) as thumbnail:
            assert thumbnail.read(3) == b"\xff\xd8\xff", "drawn by a process of its own"
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--token"),
        (["--token", "short"], "--token"),
        (["--certificate", __file__], "--key"),
    ],
)
def test_what_is_not_safe_is_refused(cli: Cli, options: list[str], message: str) -> None:
    said = cli("serve", *options)
    assert said.code in (1, 2)
    assert message in said.err


def test_without_the_extra_it_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.extras.is_importable", lambda name: name not in ("fastapi", "uvicorn"))
    assert "diptych[serve]" in cli("serve").err
