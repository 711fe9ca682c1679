"""diptych serve"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from diptych.cli.serve import _report
from diptych.serve.settings import ServeSettings
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
    process = subprocess.Popen(
        [*command, "--model", tiny_model], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
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
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0
        assert re.search(r"^read \d of 8 files$", told, re.M)
        assert re.search(r"^indexed in \d+ s: 8 added; 8 files, 8 pictures and 0 texts$", told, re.M)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--token"),
        (["--token", "short"], "--token"),
        (["--certificate", __file__], "--key"),
        (["--certificate", __file__, "--key", __file__], "two PEM files"),
        (["--cors", "a.example"], "--cors a.example is no origin"),
        (["--cors", "https://a.example/"], "is no origin"),
        (["--proxy", "127.0.0.1", "--proxy", "banana"], "--proxy banana is no address"),
        (["--proxy", "*"], "such as 127.0.0.1"),
        (["--proxy", "127.0.0.1, 10.0.0.0/8,::1,unix"], "--proxy unix is no address"),
    ],
)
def test_what_is_not_safe_is_refused(cli: Cli, options: list[str], message: str) -> None:
    said = cli("serve", *options)
    assert said.code in (1, 2)
    assert message in said.err


@pytest.mark.parametrize("missing", [("fastapi", "uvicorn"), ("python_multipart",)])
def test_without_the_extra_it_says_what_to_install(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    monkeypatch.setattr("diptych.extras.is_importable", lambda name: name not in missing)
    assert "diptych[serve]" in cli("serve").err


def test_a_port_that_is_taken_is_named_before_anything_is_opened(cli: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = cli("serve", tmp_path, "--port", port)
    assert said.code == 1
    assert f"--port {port} is taken" in said.err
    assert "--port 0" in said.err, "what to do"
    assert "model" not in said.err
    assert not (tmp_path / ".diptych").exists()


def test_an_address_of_another_machine_is_refused(cli: Cli) -> None:
    said = cli("serve", "--host", "192.0.2.1", "--token", "long enough")
    assert said.code == 1
    assert "--host 192.0.2.1 is no address of this machine" in said.err


def reported(settings: ServeSettings, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    _report(settings, False, f"http://{settings.host}:8000/")
    return capsys.readouterr()


def test_a_terminal_is_told_a_link_with_the_token_and_a_log_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "attic")
    settings = ServeSettings(host="0.0.0.0", token="a/b c d e")
    out, err = reported(settings, capsys)
    assert out == "http://0.0.0.0:8000/\n"
    assert "http://attic:8000/\n" in err
    assert "a/b" not in err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert "http://attic:8000/?token=a%2Fb%20c%20d%20e\n" in reported(settings, capsys)[1]
    assert reported(ServeSettings(), capsys)[1] == "stop with Ctrl-C\n"
