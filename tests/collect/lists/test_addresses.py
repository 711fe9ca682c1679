"""Addresses in one form, and which of them may be asked."""

import asyncio
from collections.abc import Sequence

import pytest

from diptych.collect.lists.addresses import Reach, Resolver, listed
from diptych.errors import ArgumentError, FetchError


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("http://A.org", "http://a.org/"),
        (" HTTP://a.org:80/x#part ", "http://a.org/x"),
        ("https://a.org:443/x?b=%20&c=é", "https://a.org/x?b=%20&c=%C3%A9"),
        ("https://a.org:8443/a b.jpg", "https://a.org:8443/a%20b.jpg"),
        ("http://bücher.example/ü.jpg", "http://xn--bcher-kva.example/%C3%BC.jpg"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("http://a.org./x", "http://a.org/x"),
    ],
)
def test_one_form(given: str, wanted: str) -> None:
    assert listed(given) == wanted
    assert listed(wanted) == wanted


@pytest.mark.parametrize(
    "given",
    ["ftp://a.org/x", "file:///etc/passwd", "//a.org/x", "a.org/x", "http://", "http://me:secret@a.org/x",
     "http://a.org:port/x", "javascript:alert(1)", "http://a.org/" + "x" * 9000, "http://a\x01b/"],
)  # fmt: skip
def test_no_address(given: str) -> None:
    with pytest.raises(FetchError) as refused:
        listed(given)
    assert refused.value.reason == "no address"
    assert "secret" not in str(refused.value)


def test_redirects_are_relative_to_where_they_come_from() -> None:
    assert listed("../y.jpg", within="http://a.org/p/x.jpg") == "http://a.org/y.jpg"
    assert listed("//b.org/y", within="https://a.org/x") == "https://b.org/y"


def resolved(reach: Reach, host: str, *answers: str, is_owned: bool | None = None) -> Sequence[str]:
    async def lookup(name: str) -> Sequence[str]:
        return answers

    async def ask() -> Sequence[str]:
        resolver = Resolver(reach, lookup)
        try:
            return await resolver.checked(host, is_owned=is_owned)
        finally:
            resolver.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "0.0.0.0", "::1", "fe80::1%eth0", "::ffff:127.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "100.64.0.1"],
)  # fmt: skip
def test_no_public_address(address: str) -> None:
    """Also where a name leads to it: of the machine, of its network, of a cloud's metadata, of a carrier."""
    with pytest.raises(FetchError) as refused:
        resolved(Reach(), "pictures.example", address)
    assert refused.value.reason == "no public address"
    if "%" not in address:
        with pytest.raises(FetchError):
            resolved(Reach(), address)


def test_a_name_with_both_kinds_is_asked_at_the_public_ones() -> None:
    assert resolved(Reach(), "pictures.example", "10.0.0.1", "93.184.216.34") == ["93.184.216.34"]


def test_what_is_allowed_besides() -> None:
    reach = Reach.of(["10.0.0.0/8"], ["Media.Example"])
    assert resolved(reach, "a.example", "10.0.0.1", "192.168.0.1") == ["10.0.0.1"]
    assert resolved(reach, "media.example", "192.168.0.1") == ["192.168.0.1"]
    with pytest.raises(FetchError):  # a stranger's redirect to the owner's host
        resolved(reach, "media.example", "192.168.0.1", is_owned=False)
    with pytest.raises(ArgumentError, match="wanted a network such as"):
        Reach.of(["10.0.0.1/8"])
    with pytest.raises(ArgumentError, match="is not a host"):
        Reach.of([], ["http://media.example/"])


def test_names_are_looked_up_once() -> None:
    """Also by many at the same time, and where there is no such name."""
    asked: list[str] = []

    async def lookup(name: str) -> Sequence[str]:
        asked.append(name)
        await asyncio.sleep(0)
        if name == "gone.example":
            raise OSError("no such name")
        return ["93.184.216.34"]

    async def ask() -> list[object]:
        resolver = Resolver(Reach(), lookup)
        names = ["a.example"] * 5 + ["gone.example"] * 5
        return [
            *await asyncio.gather(*map(resolver.checked, names), return_exceptions=True),
            *await asyncio.gather(*map(resolver.checked, names), return_exceptions=True),
        ]

    found = asyncio.run(ask())
    assert sorted(asked) == ["a.example", "gone.example"]
    assert [each for each in found if not isinstance(each, FetchError)] == [["93.184.216.34"]] * 10
    assert {each.reason for each in found if isinstance(each, FetchError)} == {"unknown host"}
