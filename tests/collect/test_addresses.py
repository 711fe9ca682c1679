"""One spelling for one address, and its parts."""

import pytest

from diptych.collect.addresses import host_of, netloc_of, normalized, origin_of

BASE = "http://site.org/a/b"


@pytest.mark.parametrize(
    ("written", "expected"),
    [("c", "http://site.org/a/c"), ("", "http://site.org/a/b"), ("?q=1", "http://site.org/a/b?q=1"),
     ("../../../x", "http://site.org/x"), ("/./a/../b/.", "http://site.org/b/"), ("/%2e%2E/private", "http://site.org/private"),
     ("HTTP://Site.ORG:80", "http://site.org/"), ("https://site.org:443/%7euser/%c3%A9", "https://site.org/~user/%C3%A9"),
     ("http://site.org:8080/x#y", "http://site.org:8080/x"), ("http://u:p@site.org/", "http://site.org/"),
     ("//other.org./x", "http://other.org/x"), (" /a\nb\t ", "http://site.org/ab"), ("\\x\\y", "http://site.org/x/y"),
     ("/a b/ü?ä=ö&100%", "http://site.org/a%20b/%C3%BC?%C3%A4=%C3%B6&100%25"), ("http://bücher.de/", "http://xn--bcher-kva.de/"),
     ("http://[::1]:8000/x", "http://[::1]:8000/x"),
     ("/p;jsessionid=A1?x=1&utm_source=z&PHPSESSID=9&sid=0123456789abcdef0123", "http://site.org/p?x=1"),
     ("/p?sid=42&session=blue", "http://site.org/p?sid=42&session=blue")],
)  # fmt: skip
def test_addresses_are_spelled_one_way(written: str, expected: str) -> None:
    assert normalized(written, BASE) == expected
    assert normalized(expected) == expected


@pytest.mark.parametrize(
    "written", ["mailto:a@b", "javascript:x", "data:,x", "http://[", "http://a:b/", "ftp://a/b",
                "/" + "x" * 3000, "http://a b/", "http://exa\x00mple/"],
)  # fmt: skip
def test_what_is_no_address_is_none(written: str) -> None:
    assert normalized(written, BASE) is None


def test_the_query_of_a_picture_may_be_signed() -> None:
    assert normalized("/a.jpg?utm_source=z&sid=1", BASE, is_page=False) == "http://site.org/a.jpg?utm_source=z&sid=1"


def test_a_picture_s_address_may_be_longer_than_a_page_s() -> None:
    long = "http://site.org/a.jpg?signature=" + "x" * 3000
    assert normalized(long, is_page=False) == long
    assert normalized(long) is None
    assert normalized(long * 3, is_page=False) is None


def test_parts() -> None:
    assert host_of("http://a.org:81/x?y=http://b.org/") == "a.org"
    assert netloc_of("http://a.org:81/x") == "a.org:81"
    assert origin_of("http://a.org:81/x?y") == "http://a.org:81"
    assert host_of("http://[::1]:81/x") == host_of("http://[::1]/") == "::1"
    assert netloc_of("http://[::1]:81/x") == "[::1]:81"
