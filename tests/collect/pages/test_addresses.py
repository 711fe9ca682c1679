"""One spelling for one address."""

import pytest

from diptych.collect.pages.addresses import is_endless, key_of, normalized, shape_of

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


def test_the_order_of_parameters_does_not_matter() -> None:
    assert key_of("http://a/?x=1&y=2") == key_of("http://a/?y=2&x=1") != key_of("http://a/?y=1&x=2")
    assert key_of("http://a/x") != key_of("https://a/x")


def test_calendars_have_one_shape() -> None:
    assert shape_of("http://a/2026/01?day=3") == shape_of("http://a/1999/12?day=31")
    assert shape_of("http://a/s/0123abcd9/x") == shape_of("http://a/s/ffff00001/x")
    assert shape_of("http://a/photo/dog") != shape_of("http://a/photo/cat")


def test_a_path_that_repeats_itself_is_endless() -> None:
    assert is_endless("http://a/b/c/b/c/b/c/b/c")
    assert not is_endless("http://a/1/1/1/1/1/b/b/b")
