"""diptych index SHARDS --into INDEX, and diptych embed on a cluster, as far as they need none."""

import json
from pathlib import Path

import pytest

from diptych.cli import FAILED, OK, PARTLY, USAGE
from diptych.cli.index import of_shards
from diptych.cli.index_shards import cluster_of
from diptych.index.bulk.ray_cluster import Workers
from tests.conftest import Cli, write_tar


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_shards_become_an_index_that_is_searched(cli: Cli, shards: Path, tiny_model: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    made = cli("index", f"{shards}/*.tar", "--into", library, "--model", tiny_model)
    assert (made.code, made.out.strip()) == (OK, str(library)), made.err
    assert "96 pictures and" in made.err
    found = cli("search", "a red star", library, "--json")
    assert found.code == OK, found.err
    first = json.loads(found.out)["hits"][0]["path"]
    assert ".tar/" in first
    assert first.endswith(".jpg")
    again = cli("index", shards, "--into", library, "--model", tiny_model, "--json")
    assert (again.json["found"], again.json["rows"]) == (2, 96)
    kept = cli("index", library, "--json")
    assert (kept.code, kept.json["unchanged"], kept.json["forgotten"]) == (OK, 96, 0)
    refused = cli("index", library, "--reindex")
    assert refused.code == FAILED
    assert f"has the pictures of {shards}; index those again" in refused.err


def test_bad_samples_and_lost_shards_are_named(cli: Cli, shards: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_tar(folder / "a.tar", {"x.jpg": b"no picture", "y.txt": b"words"})
    (folder / "b.tar").write_bytes(b"no tar" * 1000)
    made = cli("index", folder, "--into", tmp_path / "library", "--model", tiny_model, "--json")
    assert made.code == PARTLY
    assert ([*made.json["failures"]], [*made.json["lost"]]) == (["a.tar/x.jpg"], ["b.tar"])
    assert made.json["skipped"] == {"no picture": 1}
    assert "1 shard is not complete; the same command tries again" in made.err
    assert "cannot be read as a tar shard" in made.err


def test_a_folder_s_own_index_gets_no_shards(cli: Cli, indexed: Path, shards: Path, tiny_model: Path) -> None:
    refused = cli("index", shards, "--into", indexed, "--model", tiny_model)
    assert refused.code == FAILED
    assert "has the index of its own pictures; name another folder" in refused.err


@pytest.mark.parametrize(
    ("arguments", "is_of_shards"),
    [
        (["photos", "--engine", "pytorch"], False),
        (["--engine", "ray"], True),
        (["s", "--engine=ray", "--help"], True),
        (["s", "--into", "x"], True),
        (["s", "--cluster=auto"], True),
        (["ray"], False),
    ],
)
def test_what_names_a_cluster_or_another_index_is_of_shards(arguments: list[str], is_of_shards: bool) -> None:
    assert of_shards(arguments) is is_of_shards


def test_sizes_of_workers_want_a_cluster(cli: Cli, shards: Path, tmp_path: Path) -> None:
    refused = cli("index", shards, "--into", tmp_path / "x", "--workers", 2)
    assert refused.code == USAGE
    assert "add --engine ray or --cluster ADDRESS" in refused.err
    refused = cli("embed", shards, tmp_path / "x", "--caption-column", "text")
    assert refused.code == USAGE
    missing = cli("index", shards, "--engine", "ray")
    assert missing.code == USAGE
    assert "Missing option '--into'" in missing.err


def test_the_engine_ray_alone_is_this_machine() -> None:
    none = dict.fromkeys(("cluster", "workers", "cpus", "gpus"))
    assert cluster_of("ray", **none) == ("local", Workers())
    assert cluster_of("pytorch", **none | {"cluster": "head:6379", "gpus": 0.5}) == ("head:6379", Workers(gpus=0.5))
    assert cluster_of("pytorch", **none) == (None, Workers())
