"""The crawl of a hostile little web: all that is allowed, once; nothing that is forbidden; and an end."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from collect import little_web as web_of
from collect.little_web import Web, little_web

from diptych.collect.output.open_shard import stored_pairs
from diptych.collect.output.run_log import read_runs
from diptych.collect.pages.crawl import CrawlResult, crawl, order_of
from diptych.collect.pages.fetching import NotPublicError, PublicResolver, kinds_of
from diptych.collect.pages.limits import CrawlLimits
from diptych.media.reading.child_process import ChildProcess

pytestmark = pytest.mark.skipif(not web_of.has_many_loopback_addresses(), reason="one loopback address")
CONTACT = "test@example.org"
DELAY_S, CRAWL_DELAY_S = 0.01, 0.02
LIMITS = CrawlLimits(delay_s=DELAY_S, deadline_s=3.0, barren=300, page_bytes=1 << 20, picture_bytes=1 << 20)
FORBIDDEN = {
    "gallery": ("/private", "/%70rivate"), "shop": ("/buy", "/a/b"), "notes": ("/reserved", "/never", "/nofollow"),
    "members": ("/closed",), "trap": ("/no/",),
}  # fmt: skip


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Web, CrawlResult, Path]]:
    """The whole web, crawled once."""
    out = tmp_path_factory.mktemp("crawled")
    with little_web(web_of.SITES) as web:
        done = crawl([web.url("gallery")], out, contact=CONTACT, limits=LIMITS, other_hosts=True, pairs_per_shard=100)
        yield web, done, out


def pairs(out: Path) -> list[dict]:
    return [stored.facts for path in sorted(out.glob("*.tar")) for stored in stored_pairs(path)]


def pages_of(prefix: str, count: int) -> set[str]:
    return {f"{prefix}{number}" for number in range(count)}


def test_all_that_is_allowed_is_asked_for_once(crawled: tuple[Web, CrawlResult, Path]) -> None:
    web, done, _ = crawled
    wanted = {
        "gallery": {"/", *pages_of("/p/", web_of.GALLERY)}, "shop": {"/", *pages_of("/s/", web_of.SHOP)} - {"/s/0"},
        "notes": {"/", *pages_of("/n/", web_of.NOTES)}, "busy": {"/", *pages_of("/b/", web_of.BUSY)} - {"/b/0"},
        "members": {"/", *pages_of("/open/", web_of.MEMBERS)}, "trap": {"/", "/after-deep", "/fine.jpg"},
    }  # fmt: skip
    for site, paths in wanted.items():
        assert paths <= {*web.paths(site)}, site
    assert sum(map(len, wanted.values())) > 950
    counts = Counter((asked.site, asked.path) for asked in web.log if asked.path != "/robots.txt")
    tried_again = {("busy", "/b/3"), ("busy", "/i/5.jpg")}
    limit = {("trap", path): 3 for path in ("/cut", "/cut.jpg")}
    assert {key: count for key, count in counts.items() if count > limit.get(key, 1)}.keys() == tried_again
    assert {counts[key] for key in tried_again} == {2}
    assert done.pages["done"][""] >= 950


def test_nothing_forbidden_is_asked_for_not_even_in_the_first_second(crawled: tuple[Web, CrawlResult, Path]) -> None:
    web, done, _ = crawled
    for site, marks in FORBIDDEN.items():
        asked = web.paths(site)
        assert [path for path in asked if path.startswith(marks) or "cart=" in path or path.endswith(".php")] == []
    for site in web.hosts:
        assert web.paths(site)[0] == "/robots.txt", site
    assert {*web.paths("broken")} == {*web.paths("guarded")} == {"/robots.txt"}
    assert done.pages["refused"]["robots.txt"] > 100
    assert done.set_aside == {web.hosts["broken"]: "robots.txt unreachable (500)"}


def test_every_request_says_who_asks_and_carries_no_cookie(crawled: tuple[Web, CrawlResult, Path]) -> None:
    web, _, _ = crawled
    assert {asked.contact for asked in web.log} == {""}
    [agent] = {asked.agent for asked in web.log}
    assert agent.startswith("Diptych/")
    assert CONTACT in agent


def test_the_rate_of_each_host_is_kept(crawled: tuple[Web, CrawlResult, Path]) -> None:
    """Its requests take as long as they must in all: the log has when each came."""
    web, _, _ = crawled
    for site in ("gallery", "shop", "notes"):
        times = [asked.time_s for asked in web.log if asked.site == site]
        delay_s = CRAWL_DELAY_S if site == "gallery" else DELAY_S
        assert times[-1] - times[1] >= 0.9 * delay_s * (len(times) - 2)


def test_a_host_that_asks_for_patience_gets_it(crawled: tuple[Web, CrawlResult, Path]) -> None:
    web, _, _ = crawled
    log = [asked for asked in web.log if asked.site == "busy"]
    for path in ("/b/3", "/i/5.jpg"):
        first = next(number for number, asked in enumerate(log) if asked.path == path)
        assert log[first + 1].time_s - log[first].time_s >= 0.99


def test_what_has_no_end_is_left(crawled: tuple[Web, CrawlResult, Path]) -> None:
    web, done, _ = crawled
    assert len(web.paths("calendar")) < 150
    assert done.pages["refused"]["endless"] > 0
    assert done.pages["refused"]["too deep"] > 0
    assert done.pages["failed"]["redirects"] == 1
    assert len([path for path in web.paths("gallery") if path.startswith("/r/endless")]) == 6
    assert len([path for path in web.paths("gallery") if path.startswith("/loop")]) == 2
    assert done.pages["failed"]["time-out"] >= 1
    assert done.pages["failed"]["too large"] >= 1
    assert done.pages["failed"]["not a page"] == 1
    assert done.pages["failed"]["cut short"] == 1
    assert done.pictures["failed"]["not a picture"] == 1


def test_only_addresses_of_the_kind_of_the_first_are_connected_to(crawled: tuple[Web, CrawlResult, Path]) -> None:
    """A page cannot lead into the network of whoever crawls."""
    _, done, _ = crawled
    assert done.pictures["failed"]["not public"] == done.pages["failed"]["not public"] == 1


def test_a_name_is_resolved_to_allowed_addresses_alone() -> None:
    resolver = PublicResolver(None, 0, 1.0)  # type: ignore[arg-type]
    assert resolver._checked("93.184.216.34") == "93.184.216.34"
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0"):
        with pytest.raises(NotPublicError):
            resolver._checked(address)
    assert kinds_of(["http://127.0.0.1:8000/"]) == {"public", "loopback"}


def test_reservations_are_counted_by_their_names(crawled: tuple[Web, CrawlResult, Path]) -> None:
    _, done, _ = crawled
    refused = done.pages["refused"]
    assert (refused["noai"], refused["noimageai"], refused["tdm-reservation"]) == (1, 1, 2)
    assert (done.pictures["refused"]["noai"], done.pictures["refused"]["tdm-reservation"]) == (1, 1)


def test_each_picture_is_one_pair_with_its_words(crawled: tuple[Web, CrawlResult, Path]) -> None:
    web, done, out = crawled
    found = pairs(out)
    # the gallery's and its ten copies, the shop's, those of the notes and of the busy site, one behind the traps
    assert len(found) == 100 + 10 + 1 + web_of.NOTES + web_of.BUSY + 1
    assert len({facts["sha256"] for facts in found}) == len(found) == done.pairs_now
    assert done.pictures["duplicate"] == {"duplicate": 30}
    [seventh] = [facts for facts in found if facts["url"] == web.url("gallery", "/i/7.jpg")]
    assert seventh["captions"][0] == "A dog number 7 runs over the snow"
    assert seventh["origins"][0] == "alt"
    assert seventh["language"] == "en"
    assert len(list(out.glob("*.parquet"))) == len(list(out.glob("*.tar"))) == 3


def test_the_same_call_asks_for_nothing_again(crawled: tuple[Web, CrawlResult, Path]) -> None:
    """But for the rules of the host that could not say what it permits."""
    web, done, out = crawled
    before = len(web.log)
    again = crawl([web.url("gallery")], out, contact=CONTACT, limits=LIMITS, other_hosts=True, pairs_per_shard=100)
    assert (again.pages_now, again.pairs_now, again.left) == (0, 0, done.left)
    assert {(asked.site, asked.path) for asked in web.log[before:]} <= {("broken", "/robots.txt")}
    assert len(pairs(out)) == done.pairs_now


def finished(out: Path) -> set[str]:
    """The addresses that a crawl will not ask for again."""
    with sqlite3.connect(out / "crawl.sqlite") as db:
        rows = db.execute(
            "SELECT url FROM pages WHERE state != 'queued' UNION SELECT url FROM pictures WHERE state != 'queued'"
        ).fetchall()
    db.close()
    return {url for (url,) in rows}


def test_json_of_a_result_is_plain(crawled: tuple[Web, CrawlResult, Path]) -> None:
    _, done, _ = crawled
    assert json.loads(json.dumps(done.pages))["done"][""] == done.pages["done"][""]


@pytest.mark.slow
def test_twenty_kills_repeat_no_finished_page(tmp_path: Path) -> None:
    """The process that crawls is killed in the middle, twenty times, and another goes on."""
    command = [sys.executable, str(Path(__file__).with_name("forking_crawls.py"))]
    with (
        little_web({"gallery": web_of.small_gallery}) as web,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
        ) as forks,
    ):
        assert forks.stdin is not None
        assert forks.stdout is not None
        start = [web.url("gallery")]
        order = json.dumps(order_of(start, tmp_path, contact=CONTACT, limits=CrawlLimits(delay_s=DELAY_S))).encode()
        repeated, before = list[str](), 0
        for _ in range(20):
            known = finished(tmp_path) if before else set()
            forks.stdin.write(order + b"\n")
            forks.stdin.flush()
            process = int(forks.stdout.readline())
            web.wait_for(before + 7)  # robots.txt and reservations first
            os.kill(process, signal.SIGKILL)
            assert forks.stdout.readline() == b"ended\n"
            repeated += [asked.path for asked in web.log[before:] if web.url("gallery", asked.path) in known]
            before = len(web.log)
        forks.stdin.close()
        known = finished(tmp_path)
        assert len(known) < web_of.SMALL_GALLERY, "it ended before it was killed"
        done = crawl(start, tmp_path, contact=CONTACT, limits=CrawlLimits(delay_s=DELAY_S))
        repeated += [asked.path for asked in web.log[before:] if web.url("gallery", asked.path) in known]
        assert repeated == []
        assert pages_of("/p/", web_of.SMALL_GALLERY) <= {*web.paths("gallery")}
    found = pairs(tmp_path)
    assert len(found) == len({facts["sha256"] for facts in found}) == 110
    assert done.pictures["done"] == {"": 110}


def test_a_crawl_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    """Whoever is killed cannot tell its child: the end of the pipe does, and what was finished is kept."""
    with little_web({"gallery": web_of.gallery}) as web:
        order = order_of([web.url("gallery")], tmp_path, contact=CONTACT, limits=CrawlLimits(delay_s=DELAY_S))
        child = ChildProcess(order, program="diptych.collect.pages.child.crawl_process")
        child.wait_until_ready()
        while child.receive(600.0)[0].get("pages", 0) < 3:
            pass
        child._orders.close()
        answer = child.receive(600.0)[0]
        while "pages" in answer:
            answer = child.receive(600.0)[0]
        assert answer["result"]["stopped"] is True
        child.end()
    assert answer["result"]["pages"]["queued"][""] > 0
    assert len(pairs(tmp_path)) == answer["result"]["pairs_now"] > 0
    [run] = read_runs(tmp_path)
    assert (run.command, run.kept) == ("crawl", answer["result"]["pairs_now"])
