"""What a host permits: its robots.txt, its reservations, its pace, and the name under which it is asked."""

import codecs
from datetime import UTC, datetime

import pytest
from resiliparse.parse.html import HTMLTree

from diptych import __version__
from diptych.collect.permission.agent import user_agent
from diptych.collect.permission.pace import HostPace, retry_after_s
from diptych.collect.permission.permissions import KEPT_S, Permissions, origin_of
from diptych.collect.permission.reservations import (
    TdmRules,
    nofollow_in_headers,
    nofollow_in_page,
    refusal_in_headers,
    refusal_in_page,
)
from diptych.collect.permission.robots import MAX_BYTES, RobotsRules
from diptych.errors import ArgumentError

SITE = "https://example.org"


@pytest.mark.parametrize("contact", ["ann@example.org", "https://example.org/about-us?x=1", " ann@example.org "])
def test_the_agent_says_what_it_is_and_whom_to_write_to(contact: str) -> None:
    assert user_agent(contact) == f"Diptych/{__version__} (+{contact.strip()})"


@pytest.mark.parametrize(
    "contact", ["", "Ann", "ann@example", "ftp://example.org", "https://", "ann@example.org\r\nX: y", "http://[",
                "https://a:b@example.org/", "https://example.org/)(", f"{'a' * 300}@example.org", "änn@example.org"],
)  # fmt: skip
def test_a_contact_that_reaches_nobody_is_refused(contact: str) -> None:
    with pytest.raises(ArgumentError, match="reaches nobody"):
        user_agent(contact)


RULES = b"""User-agent: *
Disallow: /private
Allow: /private/open
Disallow: /*.cgi$
Crawl-delay: 2.5

User-agent: diptych
Disallow: /not-for-us
Disallow: /*/draft-*/
Request-rate: 1/10
"""


def test_the_group_of_our_name_counts_alone() -> None:
    rules = RobotsRules.parse(RULES, 200)
    assert rules.delay_s == 10.0
    assert [rules.allows(SITE + path) for path in ("/private", "/not-for-us/x", "/a/draft-1/x", "/a/draft")] == [
        True, False, False, True,
    ]  # fmt: skip


def test_the_group_of_everybody_counts_without_ours() -> None:
    rules = RobotsRules.parse(RULES.partition(b"\n\nUser")[0], 200)
    assert rules.delay_s == 2.5
    paths = ("/", "/private/x", "/private/open/x", "/x.cgi", "/x.cgi?y")
    assert [rules.allows(SITE + path) for path in paths] == [True, False, True, False, True]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_voids_no_rule(encoding: str) -> None:
    body = b"User-agent: *\nDisallow: /private".decode().encode(encoding)
    assert body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16))
    rules = RobotsRules.parse(body, 200)
    assert rules.allows(SITE + "/open")
    assert not rules.allows(SITE + "/private")


@pytest.mark.parametrize(
    ("status", "allowed", "reason"),
    [(200, False, None), (404, True, None), (410, True, None), (401, False, "robots.txt refused"),
     (403, False, "robots.txt refused"), (429, False, "robots.txt unreachable"), (500, False, "robots.txt unreachable"),
     (503, False, "robots.txt unreachable"),
     (302, False, "robots.txt unreachable"), (0, False, "robots.txt unreachable")],
)  # fmt: skip
def test_the_status_of_robots_txt_decides(status: int, allowed: bool, reason: str | None) -> None:
    rules = RobotsRules.parse(b"User-agent: *\nDisallow: /", status)
    assert rules.allows(SITE + "/x") is allowed
    assert rules.refuses_all == reason


def test_of_a_gigantic_file_the_whole_lines_count() -> None:
    start = b"User-agent: *\nDisallow: /private\n"
    padding = b"#" * (MAX_BYTES - len(start) - len(b"Disallow: /o")) + b"\nDisallow: /open-and-more\n"
    rules = RobotsRules.parse(start + padding[1:] * 3, 200)
    assert not rules.allows(SITE + "/private")
    assert rules.allows(SITE + "/open")


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>", b"\x00\xff\xfe", b"Disallow /", b"Crawl-delay: nan"])
def test_what_is_no_robots_txt_forbids_nothing(body: bytes) -> None:
    rules = RobotsRules.parse(body, 200)
    assert rules.allows(SITE + "/x")
    assert rules.delay_s is None


@pytest.mark.parametrize(
    ("headers", "reason"),
    [({"X-Robots-Tag": "noai"}, "noai"), ({"x-robots-tag": "all, NOIMAGEAI"}, "noimageai"),
     ({"X-Robots-Tag": "none"}, "noindex"), ({"X-Robots-Tag": "noimageindex"}, "noimageindex"),
     ({"X-Robots-Tag": "otherbot: noindex"}, None), ({"X-Robots-Tag": "otherbot: noindex, noai"}, "noai"),
     ({"X-Robots-Tag": "otherbot: noindex, Diptych: noimageindex"}, "noimageindex"),
     ({"X-Robots-Tag": "unavailable_after: 25 Jun 2010 15:00:00 PST, noai"}, "noai"),
     ({"X-Robots-Tag": "nofollow"}, None), ({"TDM-Reservation": "1"}, "tdm-reservation"),
     ({"tdm-reservation": "0"}, None), ({"tdm-reservation": "0,1"}, "tdm-reservation"), ({}, None)],
)  # fmt: skip
def test_headers_reserve(headers: dict[str, str], reason: str | None) -> None:
    assert refusal_in_headers(headers) == reason


def test_links_are_not_followed_against_a_wish() -> None:
    assert nofollow_in_headers({"X-Robots-Tag": "NoFollow"})
    assert nofollow_in_headers({"X-Robots-Tag": "none"})
    assert not nofollow_in_headers({"X-Robots-Tag": "otherbot: nofollow"})
    assert nofollow_in_page(HTMLTree.parse('<meta name=robots content="index,nofollow">'))
    assert not nofollow_in_page(HTMLTree.parse('<meta name=otherbot content="nofollow">'))


@pytest.mark.parametrize(
    ("meta", "reason"),
    [('<meta name="robots" content="noai, noimageai">', "noai"), ("<META NAME=ROBOTS CONTENT=NoImageAI>", "noimageai"),
     ('<meta name="diptych" content="noai">', "noai"), ('<meta name="otherbot" content="noai">', None),
     ('<meta name="tdm-reservation" content="1">', "tdm-reservation"), ("<p>", None),
     ('<meta name="TDM-Reservation" content="0">', None), ('<meta name="robots" content="index, follow">', None)],
)  # fmt: skip
def test_pages_reserve(meta: str, reason: str | None) -> None:
    assert refusal_in_page(HTMLTree.parse(f"<html><head>{meta}</head><body>x</body></html>")) == reason


def test_a_file_reserves_for_a_host() -> None:
    rules = TdmRules.parse(
        b'[{"location": "/photos/", "tdm-reservation": 1}, {"location": "/photos/free/", "tdm-reservation": 0},'
        b' {"location": "/*.png$", "tdm-reservation": "1"}, {"location": 7}, 3, {"tdm-reservation": 1}]'
    )
    paths = ("/photos/a", "/photos/free/a", "/x/a.png", "/x/a.png?b", "/", "/photo")
    assert [rules.refuses(path) for path in paths] == [True, False, True, False, False, False]


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"<html>", b'[{"location": "photos", "tdm-reservation": 1}]'])
def test_what_is_no_such_file_reserves_nothing(body: bytes) -> None:
    assert not TdmRules.parse(body).refuses("/photos")


def test_a_pattern_of_many_stars_costs_no_more_than_its_text() -> None:
    """A pattern that gives back what it took would try some 30 ** 30 ways."""
    rules = TdmRules([("/" + "*a" * 60 + "*b$", True)])
    assert not rules.refuses("/" + "a" * 5000)
    assert rules.refuses("/" + "a" * 5000 + "b")


def test_all_is_asked_before_anything_else_and_only_what_is_permitted() -> None:
    permissions = Permissions()
    page = "http://Example.org:80/a/page"
    with pytest.raises(LookupError, match=r"robots\.txt"):
        permissions.refusal(page)
    assert permissions.missing(page) == "http://example.org/robots.txt"
    permissions.learn("http://example.org/robots.txt", b"User-agent: *\nDisallow: /no\nCrawl-delay: 3", 200)
    assert permissions.delay_s(page) == 3.0
    assert permissions.missing("http://example.org/no") is None
    assert permissions.refusal("http://example.org/no") == "robots.txt"
    assert permissions.missing(page) == "http://example.org/.well-known/tdmrep.json"
    permissions.learn("http://example.org/.well-known/tdmrep.json", b'[{"location": "/a", "tdm-reservation": 1}]', 200)
    assert permissions.refusal(page) == "tdm-reservation"
    assert permissions.refusal("http://example.org/b") is None
    assert permissions.missing("https://example.org/a") == "https://example.org/robots.txt"


def test_a_file_in_a_forbidden_folder_is_not_asked_for() -> None:
    permissions = Permissions()
    permissions.learn(f"{SITE}/robots.txt", b"User-agent: *\nDisallow: /.well-known", 200)
    assert permissions.missing(f"{SITE}/a") is None
    assert permissions.refusal(f"{SITE}/a") is None


def test_own_hosts_need_no_permission() -> None:
    permissions = Permissions(own_hosts=["Example.ORG"])
    assert permissions.missing("http://example.org/a") is None
    assert permissions.refusal("http://example.org/a") is None
    assert permissions.missing("http://www.example.org/a") == "http://www.example.org/robots.txt"


def test_rules_are_asked_for_again_after_a_day() -> None:
    now = [0.0]
    permissions = Permissions(clock=lambda: now[0])
    permissions.learn(f"{SITE}/robots.txt", b"", 404)
    permissions.learn(f"{SITE}/.well-known/tdmrep.json", b"", 404)
    now[0] = KEPT_S - 1
    assert permissions.missing(f"{SITE}/a") is None
    now[0] = KEPT_S + 1
    assert permissions.missing(f"{SITE}/a") == f"{SITE}/robots.txt"


@pytest.mark.parametrize("url", ["", "ftp://a/b", "javascript:1", "http://", "http://[a", "http://a:b/", "/path"])
def test_no_address_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        origin_of(url)


@pytest.mark.parametrize(
    ("url", "origin"),
    [("HTTP://A.org:80/x", "http://a.org"), ("https://a.org:443", "https://a.org"), ("http://a:443/", "http://a:443"),
     ("http://u:p@[::1]:8080/x", "http://[::1]:8080")],
)  # fmt: skip
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


def test_the_pace_keeps_the_delay_and_follows_a_slow_host() -> None:
    pace = HostPace(1.0)
    assert pace.wait_s(0.0) == 0.0
    pace.begin(0.0)
    assert pace.wait_s(0.25) == 0.75
    pace.end(0.1, 0.1, 200)
    assert pace.delay_s == 1.0  # never under what was set
    pace.begin(1.0)
    pace.end(6.0, 5.0, 200)
    assert pace.delay_s == 3.0  # half way between 1 and 5
    pace.end(6.0, 0.1, 404)
    assert pace.delay_s == 3.0  # a quick error hurries nobody
    pace.end(6.0, 1.0, 200)
    assert pace.delay_s == 2.0


def test_too_much_doubles_the_pause_and_is_waited_for() -> None:
    pace = HostPace(1.0, most_s=8.0)
    for expected in (2.0, 4.0, 8.0, 8.0):
        pace.end(0.0, 0.1, 429)
        assert pace.delay_s == expected
    pace.end(10.0, 0.1, 503, "30")
    assert pace.wait_s(10.0) == 30.0
    pace = HostPace(1.0)
    pace.end(0.0, 20.0, 0)
    assert pace.delay_s == 20.0  # no answer within 20 s


def test_the_hosts_own_delay_counts_if_it_is_longer() -> None:
    pace = HostPace(1.0, most_s=5.0)
    pace.ask_for(10.0)
    pace.ask_for(0.5)
    pace.ask_for(None)
    pace.begin(0.0)
    assert pace.wait_s(0.0) == 10.0
    pace.end(0.1, 0.1, 200)
    assert pace.delay_s == 10.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (" 7 ", 7.0), ("", None), ("soon", None), ("-1", None), ("1.5", None),
     ("Mon, 30 Nov 2026 12:00:10 GMT", 10.0), ("Mon, 30 Nov 2026 11:00:00 GMT", 0.0), ("9" * 400, 999999999999.0)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
    assert retry_after_s(value, now_s=now) == seconds
