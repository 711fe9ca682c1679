"""The whole circle: crawl, filter, train, search, and forget a domain."""

import io
import json
import sqlite3
from pathlib import Path

import pytest
from collect.little_web import Handler, Reply, Site, Web, has_many_loopback_addresses, image, link, little_web, page

from diptych.collect.output.open_shard import stored_pairs
from diptych.scenes.scene import Scenes
from tests.conftest import Cli

pytestmark = pytest.mark.skipif(not has_many_loopback_addresses(), reason="one loopback address")
PICTURES, PER_PAGE = 24, 6


def drawings(first: int) -> Site:
    """A site of drawn scenes with their captions; one picture of each page says nothing but its file's name."""
    scenes = Scenes(first + PICTURES, size_px=96)

    def answer(web: Web, asked: Handler, path: str, query: str) -> Reply | None:
        if path == "/":
            return Reply(page(*(link(f"/page/{number}") for number in range(PICTURES // PER_PAGE))))
        if path.startswith("/page/"):
            numbers = range(int(path[6:]) * PER_PAGE, (int(path[6:]) + 1) * PER_PAGE)
            captions = {number: scenes[first + number].captions[0] for number in numbers}
            captions[numbers[0]] = f"IMG_{numbers[0]:04}.JPG"
            return Reply(page(*(image(f"/{number}.png", caption) for number, caption in captions.items())))
        if path.endswith(".png"):
            drawn = scenes[first + int(path[1:-4])].image
            with io.BytesIO() as file:
                drawn.save(file, "PNG")
                return Reply(file.getvalue(), "image/png")
        return Reply("not here", "text/plain", 404)

    return answer


def hosts_of(folder: Path) -> set[str]:
    """The hosts whose pages are named anywhere in the shards and tables of a collection."""
    pages = {pair.facts["page_url"] for path in sorted(folder.glob("*.tar")) for pair in stored_pairs(path)}
    return {address.split("/")[2] for address in pages}


@pytest.mark.slow
def test_from_pages_to_a_model_and_back(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    crawled, pairs, run, library = (tmp_path / name for name in ("crawled", "pairs", "run", "library"))
    with little_web({"kept": drawings(0), "gone": drawings(PICTURES)}) as web:
        starts = (web.url("kept"), web.url("gone"))
        said = cli("collect", "crawl", *starts, crawled, "--contact", "me@example.org", "--delay", 0.01, "--json")
        assert said.code == 0, said.err
        gone = web.hosts["gone"].partition(":")[0]
        assert hosts_of(crawled) == {*web.hosts.values()}

        said = cli("collect", "filter", crawled, pairs, "--agreement", -1, "--json")
        assert said.code == 0, said.err
        kept = [pair for path in sorted(pairs.glob("*.tar")) for pair in stored_pairs(path)]
        assert 30 < len(kept) <= 2 * PICTURES
        assert not [pair for pair in kept if "IMG_" in json.dumps(pair.facts)]

        options = ("--epochs", 1, "--batch-size", 8, "--vocab-size", 600, "--precision", "fp32", "--threads", 1)
        said = cli("train", "--data", pairs, "--model", "vit-tiny", *options, "--out", run, "--json")
        assert said.code == 0, said.err
        model = run / "model"
        said = cli("index", pairs, "--into", library, "--model", model, "--json")
        assert (said.code, said.json["rows"]) == (0, len(kept)), said.err
        found = cli("search", "a red circle", library, "--limit", len(kept), "--json")
        assert (found.code, len(found.json["hits"])) == (0, len(kept)), found.err

        said = cli("collect", "forget", pairs, "--domain", gone, "--index", library, "--runs", run, "--json")
        assert said.code == 0, said.err
        left = len(kept) - said.json["pairs"]
        assert 0 < left < len(kept)
        assert said.json["models"] == [{"run": str(run), "known_by": "shards"}]
        assert hosts_of(pairs) == {web.hosts["kept"]}
        assert tables_name(pairs, gone) == []
        found = cli("search", "a red circle", library, "--limit", len(kept), "--json")
        assert (found.code, len(found.json["hits"])) == (0, left), found.err
        with sqlite3.connect(next(library.rglob("catalog.sqlite"))) as catalog:
            assert gone not in "\n".join(catalog.iterdump())

        before = len(web.paths("gone"))
        said = cli("collect", "forget", crawled, "--domain", gone, "--json")
        assert said.code == 0, said.err
        said = cli("collect", "crawl", *starts, crawled, "--contact", "me@example.org", "--delay", 0.01, "--json")
        assert said.code == 0, said.err
        assert hosts_of(crawled) == {web.hosts["kept"]}
        assert [path for path in web.paths("gone")[before:] if path != "/robots.txt"] == []


def tables_name(folder: Path, host: str) -> list[str]:
    """The tables beside shards that name a host."""
    import pyarrow.parquet as parquet

    return [path.name for path in folder.glob("*.parquet") if host in str(parquet.read_table(path).to_pylist())]
