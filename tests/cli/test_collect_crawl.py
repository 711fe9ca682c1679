"""diptych collect crawl"""

from pathlib import Path

import pytest
from collect import little_web as web_of
from collect.little_web import little_web
from conftest import Cli

from diptych.cli.exit_codes import FAILED, OK, USAGE

pytestmark = pytest.mark.skipif(not web_of.has_many_loopback_addresses(), reason="one loopback address")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [(("http://127.0.0.1/",), USAGE, "--contact"),
     (("http://127.0.0.1/", "--contact", "Ann"), FAILED, "reaches nobody"),
     (("ftp://example.org", "--contact", "ann@example.org"), FAILED, "no http or https address"),
     (("http://127.0.0.1/", "--contact", "ann@example.org", "--disable-rule", "all"), FAILED, "no rule is called")],
)  # fmt: skip
def test_what_cannot_be_done_is_said_before_anything_is_asked(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    said = cli("collect", "crawl", arguments[0], tmp_path / "pairs", *arguments[1:])
    assert said.code in (code, USAGE)
    assert message in said.err
    assert not (tmp_path / "pairs").exists()


def test_pages_become_shards(cli: Cli, tmp_path: Path) -> None:
    with little_web({"busy": web_of.busy}) as web:
        said = cli(
            "collect", "crawl", web.url("busy"), tmp_path, "--contact", "ann@example.org", "--delay", "0.01",
            "--pages", 9, "--size", 32, "--json",
        )  # fmt: skip
        assert said.code == OK
        assert said.json["pages_now"] == said.json["pairs_now"] == 9
        assert said.json["left"] > 0
        assert "the same command, or one with higher limits, goes on" in said.err
        again = cli(
            "collect", "crawl", web.url("busy"), tmp_path, "--contact", "ann@example.org", "--delay", "0.01",
        )  # fmt: skip
        assert again.out.strip() == str(tmp_path)
        assert f"{web_of.BUSY - 9} pages read, {web_of.BUSY - 9} pairs written" in again.err
        assert {count for (_, path), count in web.counts.items() if path.startswith("/b/1")} == {1}
    assert (tmp_path / "00000.tar").exists()
    assert (tmp_path / "00000.parquet").exists()
