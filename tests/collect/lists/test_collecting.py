"""Lists from a little web on loopback: what is asked for, what comes, and why the rest does not."""

import csv
import hashlib
import json
import tarfile
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from diptych.collect.lists.collecting import ListResult, collect_list
from diptych.collect.lists.downloader import Limits
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.run_log import read_runs
from tests.collect.lists.little_web import LittleWeb, Page, little_web, picture

HOST = "127.0.1.1"
JPEG = picture()


@pytest.fixture
def web() -> Iterator[LittleWeb]:
    with little_web() as made:
        yield made


class Run:
    """Lists into one folder."""

    def __init__(self, folder: Path, web: LittleWeb):
        self.folder, self.out, self._web = folder, folder / "out", web

    def __call__(self, *urls: str, captions: Sequence[str] = (), **options: Any) -> ListResult:
        rows = [
            (
                url if "://" in url else self._web.url(HOST, url),
                captions[at] if captions else f"the picture of row {at}",
            )
            for at, url in enumerate(urls)
        ]
        path = self.folder / "list.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("url", "caption"), *rows])
        limits = Limits(**{"url_s": 20.0, **options.pop("limits", {})})
        options = {"networks": ["127.0.0.0/8"], "processes": 1, **options}
        return collect_list([path], self.out, contact="me@example.org", limits=limits, **options)

    def pairs(self) -> list[dict[str, Any]]:
        """The rows of all tables."""
        return [row for path in sorted(self.out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]

    def failed(self) -> dict[str, str]:
        """Path and reason of what failed or was refused."""
        with open(self.out / "failed.csv", newline="", encoding="utf-8") as file:
            return {row["url"].split("/", 3)[3]: row["reason"] for row in csv.DictReader(file)}


@pytest.fixture
def run(tmp_path: Path, web: LittleWeb) -> Run:
    return Run(tmp_path, web)


def test_pictures_with_their_captions_in_shards(run: Run, web: LittleWeb) -> None:
    for number in range(5):
        web.pages[f"/{number}.jpg"] = Page(picture(number, 160))
    done = run(*(f"/{number}.jpg" for number in range(5)), size=96, pairs_per_shard=3)
    assert (done.pairs, done.done, done.urls, done.rows, done.failed, done.refused, done.waiting) == (
        5,
        5,
        5,
        5,
        {},
        {},
        0,
    )
    assert {(row["url"], row["caption"]) for row in run.pairs()} == {
        (web.url(HOST, f"/{number}.jpg"), f"the picture of row {number}") for number in range(5)
    }
    assert {(row["width"], row["height"], row["original_width"]) for row in run.pairs()} == {(96, 96, 160)}
    with tarfile.open(run.out / "00000.tar") as tar:
        assert len(tar.getnames()) == 9
    assert {agent for *_, agent in web.log} == {next(iter(web.log))[3]}
    assert "Diptych/" in web.log[0][3]
    assert "(+me@example.org)" in web.log[0][3]


def test_each_run_is_noted_for_the_datasheet(run: Run, web: LittleWeb) -> None:
    web.pages["/0.jpg"] = Page(picture(0, 160))
    web.pages["/1.jpg"] = Page(b"gone", status=404)
    run("/0.jpg", "/1.jpg", size=96)
    web.pages["/1.jpg"] = Page(picture(1, 160))
    run("/0.jpg", "/1.jpg", size=96, retry=True)
    first, second = read_runs(run.out)
    assert (first.command, first.flags["size"], first.found, first.kept) == ("list", 96, 2, 1)
    assert sum(first.left_out.values()) == 1
    assert (second.flags["retry"], second.found, second.kept, second.left_out) == (True, 1, 1, {})


def test_an_address_listed_twice_is_fetched_once_with_both_captions(run: Run, web: LittleWeb) -> None:
    web.pages["/x.jpg"] = Page(JPEG)
    other = web.url(HOST, "/x.jpg").replace("http://", "HTTP://") + "#top"
    done = run("/x.jpg", other, "/x.jpg")
    assert (done.rows, done.urls, done.pairs) == (3, 1, 1)
    assert web.paths() == ["/x.jpg"]
    assert run.pairs()[0]["captions"] == [f"the picture of row {at}" for at in range(3)]


def test_what_has_no_usable_caption_is_not_asked_for(run: Run, web: LittleWeb) -> None:
    web.pages = {f"/{number}.jpg": Page(JPEG) for number in range(3)}
    urls, captions = ("/0.jpg", "/1.jpg", "/2.jpg", "/2.jpg"), ("two boats", "IMG_0001.jpg", "DSC-77.JPG", "a red car")
    done = run(*urls, captions=captions)
    assert (done.pairs, done.left_out) == (2, {"caption: file-name": 2})
    assert sorted(web.paths()) == ["/0.jpg", "/2.jpg"]
    assert {row["caption"] for row in run.pairs()} == {"two boats", "a red car"}


def test_rules_can_be_disabled(run: Run, web: LittleWeb) -> None:
    """Of captions and of pictures by their names."""
    web.pages = {"/0.jpg": Page(picture(0, 32)), "/1.jpg": Page(picture(0, 32))}
    assert run("/0.jpg").failed == {"small": 1}
    disabled, captions = ["small", "personal-data"], ["two boats", "two boats of me@example.org"]
    assert run("/0.jpg", "/1.jpg", captions=captions).left_out == {"caption: personal-data": 1}
    urls = ("/0.jpg", web.url(HOST, "/1.jpg") + "#")
    assert run(*urls, captions=captions, disabled=disabled, retry=True).pairs == 2


def test_what_someone_asked_to_forget_is_not_asked_for(run: Run, web: LittleWeb) -> None:
    """Nor kept, if it comes from elsewhere."""
    web.pages = {f"/{number}.jpg": Page(picture(number)) for number in range(4)}
    run.out.mkdir()
    digest = hashlib.sha256(picture(3)).hexdigest()
    requests = [("url", web.url(HOST, "/1.jpg")), ("domain", "127.0.1.2"), ("sha256", digest)]
    Forgotten(run.out).remember(requests)  # type: ignore[arg-type]
    done = run("/0.jpg", "/1.jpg", web.url("127.0.1.2", "/2.jpg"), "/3.jpg")
    assert (done.pairs, done.refused) == (1, {"forgotten": 3})
    assert sorted(web.paths()) == ["/0.jpg", "/3.jpg"]
    assert "127.0.1.2" not in {host for _, host, _, _ in web.log}


def test_the_same_call_again_asks_for_nothing(run: Run, web: LittleWeb) -> None:
    web.pages["/x.jpg"] = Page(JPEG)
    assert run("/x.jpg", "/gone.jpg").failed == {"HTTP 404": 1}
    asked = len(web.log)
    again = run("/x.jpg", "/gone.jpg")
    assert (again.pairs, again.done, again.failed) == (0, 1, {"HTTP 404": 1})
    assert len(web.log) == asked


def test_retry_asks_again_for_what_failed(run: Run, web: LittleWeb) -> None:
    web.pages |= {"/x.jpg": Page(JPEG), "/later.jpg": lambda before: Page(JPEG) if before else Page(b"", 500)}
    web.pages["/robots.txt"] = Page(b"User-agent: *\nDisallow: /no/")
    web.pages["/no/x.jpg"] = Page(JPEG)
    assert (first := run("/x.jpg", "/later.jpg", "/no/x.jpg")).failed == {"HTTP 500": 1}
    assert first.refused == {"robots.txt": 1}
    assert run.failed() == {"later.jpg": "HTTP 500", "no/x.jpg": "robots.txt"}
    web.pages["/robots.txt"] = Page(b"", 404)
    again = run("/x.jpg", "/later.jpg", "/no/x.jpg", retry=True)
    assert (again.pairs, again.done, again.failed, again.refused) == (2, 3, {}, {})
    assert web.paths().count("/x.jpg") == 1
    assert run.failed() == {}


# --- what hosts forbid


def test_robots(run: Run, web: LittleWeb) -> None:
    """Its rules are fetched before anything else of the host, once, and nothing forbidden is requested."""
    web.pages["/robots.txt"] = Page("\ufeffUser-agent: *\nDisallow: /no/\nDisallow: /*.png$".encode())
    paths = [f"/{folder}/{number}.{kind}" for folder in ("yes", "no") for number in range(5) for kind in ("jpg", "png")]
    web.pages |= {path: Page(JPEG) for path in paths}
    done = run(*paths)
    assert done.refused == {"robots.txt": 15}
    assert sorted(web.paths()) == sorted(path for path in paths if "yes" in path and "jpg" in path)
    assert [path for _, _, path, _ in web.log[:2]] == ["/robots.txt", "/.well-known/tdmrep.json"]
    assert len(web.log) == 2 + 5


def test_robots_are_compared_with_what_the_host_sees(run: Run, web: LittleWeb) -> None:
    """Not with dots and escapes by which a list goes around its rules."""
    web.pages = {"/robots.txt": Page(b"User-agent: *\nDisallow: /no/"), "/no/x.jpg": Page(JPEG)}
    assert run("/a/../no/x.jpg", "/%6eo/x.jpg", "/./%2e/no/x.jpg").refused == {"robots.txt": 1}  # which are one
    assert web.paths() == []


def test_reservations(run: Run, web: LittleWeb) -> None:
    rules = [{"location": "/mine/*", "tdm-reservation": 1}]
    web.pages = {
        "/.well-known/tdmrep.json": Page(json.dumps(rules).encode()), "/mine/x.jpg": Page(JPEG), "/x.jpg": Page(JPEG),
        "/noai.jpg": Page(JPEG, headers={"X-Robots-Tag": "noimageai"}),
        "/tdm.jpg": Page(JPEG, headers={"TDM-Reservation": "1"}),
    }  # fmt: skip
    done = run("/mine/x.jpg", "/x.jpg", "/noai.jpg", "/tdm.jpg")
    assert done.refused == {"tdm-reservation": 2, "noimageai": 1}
    assert done.pairs == 1
    assert "/mine/x.jpg" not in web.paths()


def test_a_host_of_ones_own_is_not_asked_for_rules(run: Run, web: LittleWeb) -> None:
    web.pages = {"/robots.txt": Page(b"User-agent: *\nDisallow: /"), "/x.jpg": Page(JPEG)}
    theirs = web.url("127.0.1.2", "/x.jpg")
    done = run("/x.jpg", theirs, owned=[HOST], networks=[])
    assert (done.pairs, done.failed) == (1, {"no public address": 1})
    assert {host for _, host, _, _ in web.log} == {HOST}
    assert web.paths() == ["/x.jpg"]


def test_a_host_whose_rules_cannot_be_read_is_not_asked(run: Run, web: LittleWeb) -> None:
    web.pages = {"/robots.txt": Page(b"", 503), "/x.jpg": Page(JPEG)}
    assert run("/x.jpg").refused == {"robots.txt unreachable": 1}
    assert web.paths() == []


def test_the_pause_that_a_host_asks_for(run: Run, web: LittleWeb) -> None:
    """By the host's own log. What is refused takes no turn."""
    web.pages = {"/robots.txt": Page(b"User-agent: *\nCrawl-delay: 0.3\nDisallow: /no")}
    web.pages |= {f"/{number}.jpg": Page(JPEG) for number in range(4)}
    run(*(f"/no{number}.jpg" for number in range(50)), *(f"/{number}.jpg" for number in range(4)))
    times = [when for when, _, path, _ in web.log if path.endswith(".jpg")]
    assert len(times) == 4
    assert all(after - before > 0.25 for before, after in pairwise(times))


def test_no_more_at_a_time_than_a_host_may_get(run: Run, web: LittleWeb) -> None:
    running, most = [0], [0]

    def page(before: int) -> Page:
        running[0] += 1
        most[0] = max(most[0], running[0])
        web.ending.wait(0.05)
        running[0] -= 1
        return Page(JPEG)

    web.pages |= {f"/{number}.jpg": page for number in range(20)}
    assert run(*(f"/{number}.jpg" for number in range(20)), limits={"per_host": 3}).pairs == 20
    assert 1 < most[0] <= 3


def test_a_host_is_asked_by_several_as_soon_as_its_rules_are_known(run: Run, web: LittleWeb) -> None:
    """Its first picture does not hold up the others: none is answered before three were asked for."""
    together = threading.Barrier(3)

    def page(before: int) -> Page:
        together.wait(60)
        return Page(JPEG)

    web.pages |= {f"/{number}.jpg": page for number in range(3)}
    assert run(*(f"/{number}.jpg" for number in range(3)), limits={"per_host": 3, "url_s": 90.0}).pairs == 3


def test_the_pause_of_a_host_goes_on_after_its_rules(run: Run, web: LittleWeb) -> None:
    """Also where the address that its rules were fetched for is refused."""
    reserved = json.dumps([{"location": "/mine/*", "tdm-reservation": 1}]).encode()
    web.pages = {"/robots.txt": Page(b"User-agent: *\nCrawl-delay: 0.3"), "/.well-known/tdmrep.json": Page(reserved)}
    web.pages |= {"/x.jpg": Page(JPEG)}
    assert run("/mine/x.jpg", "/x.jpg").refused == {"tdm-reservation": 1}
    _, rules, asked = (when for when, *_ in web.log)
    assert asked - rules > 0.25


# --- redirects


def test_redirects_are_checked_like_first_requests(run: Run, web: LittleWeb) -> None:
    other = "127.0.1.2"
    web.pages = {
        f"{HOST}/a": Page(status=302, headers={"Location": web.url(other, "/x.jpg")}),
        f"{HOST}/b": Page(status=301, headers={"Location": web.url(other, "/no/x.jpg")}),
        f"{HOST}/c": Page(status=302, headers={"Location": "/c"}),
        f"{HOST}/d": Page(status=302, headers={"Location": web.url("10.0.0.1", "/x.jpg")}),
        f"{HOST}/e": Page(status=302, headers={"Location": "file:///etc/passwd"}),
        f"{other}/robots.txt": Page(b"User-agent: *\nDisallow: /no/"),
        f"{other}/x.jpg": Page(JPEG), f"{other}/no/x.jpg": Page(JPEG),
    }  # fmt: skip
    done = run("/a", "/b", "/c", "/d", "/e")
    assert done.refused == {"robots.txt": 1}
    assert done.failed == {"redirects": 1, "no public address": 1, "no address": 1}
    (pair,) = run.pairs()
    assert pair["url"] == web.url(HOST, "/a")  # as it is listed
    assert pair["columns"] == [{"name": "redirected_to", "value": web.url(other, "/x.jpg")}]
    assert web.paths(other) == ["/x.jpg"]
    asked = [path for _, host, path, _ in web.log if host == other]
    assert asked[0] == "/robots.txt"
    assert web.paths(HOST).count("/c") == 6


def test_a_redirect_leads_to_no_private_address(run: Run, web: LittleWeb) -> None:
    """Nor by a name, nor to a host of the list's owner: the server that it leads to hears nothing."""

    async def lookup(name: str) -> list[str]:
        return {"inner.example": ["127.9.0.1"], "mine.example": ["127.9.0.2"]}.get(name, [])

    hosts = ("127.9.0.1", "inner.example", "mine.example", "2130706433")
    web.pages = {
        f"/to/{host}": Page(status=302, headers={"Location": web.url(host, "/x.jpg")}) for host in hosts
    } | {"/x.jpg": Page(JPEG)}  # fmt: skip
    paths = [f"/to/{host}" for host in hosts]
    done = run(*paths, networks=["127.0.0.0/16"], owned=["mine.example"], lookup=lookup)
    assert done.failed == {"no public address": 3, "unknown host": 1}
    assert {host for _, host, _, _ in web.log} == {HOST}
    assert run(web.url("mine.example", "/x.jpg"), owned=["mine.example"], lookup=lookup).pairs == 1


def test_a_name_that_leads_elsewhere_a_moment_later_gains_nothing(run: Run, web: LittleWeb) -> None:
    """DNS rebinding: what was checked is what is connected to."""
    answers = iter([["127.0.1.5"], ["127.9.0.1"], ["127.9.0.1"]])

    async def lookup(name: str) -> list[str]:
        return next(answers)

    web.pages = {f"/{number}.jpg": Page(JPEG) for number in range(3)}
    urls = [web.url("turning.example", f"/{number}.jpg") for number in range(3)]
    assert run(*urls, networks=["127.0.0.0/16"], lookup=lookup).pairs == 3
    assert web.addresses == {"127.0.1.5"}


# --- hosts that are slow, dead or odd


def test_a_dead_host_costs_one_request(run: Run, web: LittleWeb) -> None:
    """All of its addresses fail with the reason, and the others are not held up."""
    web.pages["/x.jpg"] = Page(JPEG)
    done = run("/x.jpg", *(f"http://127.0.1.9:9/{number}.jpg" for number in range(30)))
    assert (done.pairs, done.failed) == (1, {"no connection": 30})


def test_a_host_that_never_answers(run: Run, web: LittleWeb) -> None:
    web.pages = {"/robots.txt": Page(hang=True)}
    done = run(*(f"/{number}.jpg" for number in range(10)), limits={"url_s": 0.5})
    assert done.failed == {"time-out": 10}
    assert len(web.log) == 1


def test_bodies_that_drip_are_cut_and_their_host_is_given_up(run: Run, web: LittleWeb) -> None:
    web.pages = {f"/{number}.jpg": Page(JPEG, drip_s=0.2) for number in range(30)} | {"127.0.1.2/x.jpg": Page(JPEG)}
    done = run(
        *(f"/{number}.jpg" for number in range(30)), web.url("127.0.1.2", "/x.jpg"),
        limits={"url_s": 1.0, "per_host": 3},
    )  # fmt: skip
    assert (done.pairs, done.failed) == (1, {"time-out": 30})
    assert len(web.paths(HOST)) <= 6


def test_too_many_requests(run: Run, web: LittleWeb) -> None:
    """The host gets the rest that it asks for, and its address another try."""
    much = Page(b"", 429, {"Retry-After": "1"})
    web.pages = {"/x.jpg": lambda before: Page(JPEG) if before else much, "/never.jpg": Page(b"", 503)}
    done = run("/x.jpg", "/never.jpg", limits={"per_host": 1, "tries": 1})
    assert (done.pairs, done.failed) == (1, {"HTTP 503": 1})
    first, second = (when for when, _, path, _ in web.log if path == "/x.jpg")
    assert second - first >= 1
    assert web.paths().count("/never.jpg") == 2


def test_a_host_that_asks_for_a_year_of_rest_does_not_hold_up_the_run(run: Run, web: LittleWeb) -> None:
    web.pages = {f"/{number}.jpg": Page(b"", 503, {"Retry-After": "31536000"}) for number in range(3)}
    done = run(*(f"/{number}.jpg" for number in range(3)), limits={"portion_s": 4.0, "per_host": 1})
    assert done.failed == {"portion's time": 3}
    assert len(web.paths()) == 1


def test_a_portion_that_takes_too_long_is_left_for_retry(run: Run, web: LittleWeb) -> None:
    web.pages = {"/robots.txt": Page(b"User-agent: *\nCrawl-delay: 2"), "/0.jpg": Page(JPEG), "/1.jpg": Page(JPEG)}
    done = run("/0.jpg", "/1.jpg", "/2.jpg", limits={"portion_s": 3.0})
    assert done.failed.get("portion's time", 0) >= 1
    assert done.waiting == 0


def test_answers_that_are_no_pictures(run: Run, web: LittleWeb) -> None:
    """Each costs itself alone, with a reason."""
    web.pages = {
        "/cut.jpg": Page(JPEG, cut=True), "/half.jpg": Page(JPEG[: len(JPEG) // 2]), "/page.jpg": Page(b"<html>"),
        "/huge.jpg": Page(b"", headers={"Content-Length": str(1 << 40)}), "/empty.jpg": Page(b""), "/x.jpg": Page(JPEG),
    }  # fmt: skip
    done = run("/cut.jpg", "/half.jpg", "/page.jpg", "/huge.jpg", "/empty.jpg", "/x.jpg", "ftp://a.org/x.jpg")
    assert done.pairs == 1
    failed = run.failed()
    assert {path: failed[path] for path in ("cut.jpg", "huge.jpg", "half.jpg")} == {
        "cut.jpg": "cut", "huge.jpg": "too large", "half.jpg": "truncated",
    }  # fmt: skip
    assert failed.keys() == {"cut.jpg", "half.jpg", "page.jpg", "huge.jpg", "empty.jpg"}
    assert done.left_out == {"no address": 1}
    assert web.paths().count("/cut.jpg") == 2  # once more, for the connection may have been at fault


def test_a_long_body_of_unknown_length_is_cut(run: Run, web: LittleWeb) -> None:
    long = Page(bytes(1 << 20), headers={"Content-Length": "", "Connection": "close"})
    web.pages = {"/x.jpg": long}
    assert run("/x.jpg", limits={"max_bytes": 1 << 16}).failed.keys() <= {"too large", "no HTTP"}


def test_memory_is_bounded(run: Run, web: LittleWeb) -> None:
    web.pages |= {f"/{number}.jpg": Page(picture(number, 256)) for number in range(40)}
    largest = max(len(page.body) for page in web.pages.values() if isinstance(page, Page))
    urls = [web.url(f"127.0.1.{1 + number % 8}", f"/{number}.jpg") for number in range(40)]
    done = run(*urls, limits={"memory_bytes": 2 * largest, "max_bytes": largest})
    assert done.pairs == 40
    assert done.peak_bytes <= 3 * largest


def test_a_decoder_that_dies_costs_its_picture(run: Run, web: LittleWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others that the process had are decoded by the one that replaces it."""
    monkeypatch.setattr("diptych.collect.lists.preparers._PROGRAM", "tests.collect.lists.dying_process")
    web.pages = {f"/{number}.jpg": Page(picture(number)) for number in range(6)} | {"/deadly.jpg": Page(b"deadly")}
    done = run("/deadly.jpg", *(f"/{number}.jpg" for number in range(6)))
    assert (done.pairs, done.failed) == (6, {"decoder ended": 1})
