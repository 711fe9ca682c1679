"""Dates as cameras, phones and programs write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.media.content.dates import parse_local_time

NOON = "2024-05-01T12:30:00"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2024:05:01 12:30:00", NOON),
        ("  2024:05:01 12:30:00\0", NOON),
        (b"2024:05:01 12:30:00\0", NOON),
        ("2024:05:01\x0012:30:00", NOON),
        ("2024:05:01 12:30", NOON),
        ("2024:05:01 12:30:", NOON),
        ("2024:05:01 12:30:00.123", NOON),
        ("2024:05:01 12:30:00,5", NOON),
        ("2024:05:01 12:30:00:25", NOON),
        ("2024:05:01 12:30:00+02:00", NOON),
        ("2024:05:01 12:30:00 -0700", NOON),
        ("2024-05-01T12:30:00Z", NOON),
        ("2024-05-01T12:30:00.25-07:00", NOON),
        ("2024-05-01T12:30Z", NOON),
        ("2024/05/01 12:30:00", NOON),
        ("2024.05.01 12.30.00", NOON),
        ("2024:05:01:12:30:00", NOON),
        ("20240501 123000+0200", NOON),
        ("20240501T1230", NOON),
        ("20240501123000", NOON),
        ("2024:05:01 12:30:00 PM", NOON),
        ("2024:05:01 00:30 p.m.", NOON),
        ("Wed May  1 12:30:00 2024", NOON),
        ("Wed, 01 May 2024 12:30:00 +0200", NOON),
        ("2024:5:1 9:5:7", "2024-05-01T09:05:07"),
        ("2024: 5: 1  9: 5: 7", "2024-05-01T09:05:07"),
        ("2024:05:01 12:05:07 AM", "2024-05-01T00:05:07"),
        ("2015:08:22 24:08:19", "2015-08-22T00:08:19"),  # on Android phones, of the day that has begun
        ("2024:05:01 12:30:60", "2024-05-01T12:31:00"),
        ("2024:12:31 23:59:60", "2025-01-01T00:00:00"),
        ("31:12:2015 14:58:1", "2015-12-31T14:58:01"),
        ("12/31/2015 1:05 PM", "2015-12-31T13:05:00"),
    ],
)
def test_a_time(said: object, meant: str) -> None:
    assert parse_local_time(said) == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2024:05:01", "2024-05-01"),
        ("2024:05:01   :  :  ", "2024-05-01"),
        ("2024:05:01 25:00:00", "2024-05-01"),
        ("2024:05:01 12:61:00", "2024-05-01"),
        ("2024:05:01 --:--:--", "2024-05-01"),
        ("20240501", "2024-05-01"),
        ("2024:05:00 00:00:00", "2024-05"),
        ("2024-05", "2024-05"),
        ("2024:00:00 00:00:00", "2024"),
        ("2024", "2024"),
        ("06:08:2015 14:58:01", "2015"),  # June or August
        ("9999:12:31 23:59:60", "9999-12-31"),
    ],
)
def test_as_much_of_a_date_as_is_said(said: str, meant: str) -> None:
    assert parse_local_time(said) == meant


@pytest.mark.parametrize(
    "said",
    [
        "0000:00:00 00:00:00", "    :  :     :  :  ", "0001:01:01 00:00:00", "1601:01:01 00:00:00", "",
        "1904:01:01 00:00:00", "1904:01:01 10:00:03", "1904-01-01T00:00:00Z", "1904:01:01", "1970:01:01 00:00:00",
        "1970:01:01 00:00:42", "1970-01-01T00:00Z", "1970:01:01", "2024:13:01 12:30:00", "2024:02:30 12:30:00", "1",
        "20241301", "yesterday", "12:30:00", "May 2024", "1234 Main Street", "2024-123", None, b"\0" * 20, b"\xff" * 20,
    ],
)  # fmt: skip
def test_no_date(said: object) -> None:
    assert parse_local_time(said) is None


def test_the_epochs_alone_are_left_out() -> None:
    assert parse_local_time("1904:01:02 00:00:00") == "1904-01-02T00:00:00"
    assert parse_local_time("1970:01:01 12:00:00") == "1970-01-01T12:00:00"


@given(st.datetimes().filter(lambda when: when.year > 1971))
def test_every_time_that_a_clock_can_show(when: object) -> None:
    assert parse_local_time(f"{when:%Y:%m:%d %H:%M:%S}".rjust(19, "0")) == f"{when:%Y-%m-%dT%H:%M:%S}".rjust(19, "0")


@given(st.text("0123456789:-/. TZ+APMapm", max_size=24) | st.text(max_size=20))
def test_whatever_is_said_costs_nothing(said: str) -> None:
    when = parse_local_time(said)
    assert when is None or len(when) in (4, 7, 10, 19)
