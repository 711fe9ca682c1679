"""Parses the date on which a picture or a video was taken, in the forms that cameras and programs write."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from email.utils import parsedate

# 2024:05:01, 2024-5-1, 2024/05, 2024, 20240501; some cameras pad with spaces, or leave unknown parts blank or 0
_DAY = re.compile(
    r"(\d{4})(?:\s?[-:/.]\s*(\d{1,2})(?:\s?[-:/.]\s*(\d{1,2}))?(?!\d)|(\d\d)(\d\d)(?=(?:\d{4}|\d{6})?(?!\d))|(?!\d))"
)
_TIME = re.compile(
    r"[T\s,:]*(\d{1,2})\s?[:.]\s*(\d{1,2})(?:\s?[:.]\s*(\d{1,2})(?!\d))?(?:[.:,]\d+)?"
    r"(?:\s*([AaPp])\.?[Mm]\b|(?=[\sZ+:-])|$)"
)
_PACKED_TIME = re.compile(r"[T\s]*(\d\d)(\d\d)(\d\d)?(?!\d)")
_DAY_LAST = re.compile(r"(\d{1,2})[-:/.](\d{1,2})[-:/.](\d{4})(?!\d)")
_FIRST_PHOTOGRAPH = 1826
# Unset clocks show their epoch, QuickTime's or Unix's (only the first minute of 1970: scans of 1970 have an hour)
_EPOCHS = ("1904-01-01", "1970-01-01T00:00")


def parse_local_time(value: object) -> str | None:
    """The local time of a camera's clock in ISO form, as precise as the value: '2024:05:01 12:30:00', or an ISO time in
    any zone -> '2024-05-01T12:30:00'; a date alone -> '2024-05-01'. None if it is not a date or the clock was unset."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    text = text.replace("\0", " ").strip()
    when = _year_first(text) or _year_last(text) or _in_words(text)
    if when is None or int(when[:4]) < _FIRST_PHOTOGRAPH or when.startswith(_EPOCHS) or when == "1970-01-01":
        return None
    return when


def _year_first(text: str) -> str | None:
    found = _DAY.match(text)
    if not found:
        return None
    year, month, day = found[1], int(found[2] or found[4] or 0), int(found[3] or found[5] or 0)
    if not month or not day:  # "2024:00:00": month and day are unknown
        partial = f"{year}-{month:02}" if month else year
        return partial if month <= 12 and (found[2] or found[4] or found.end() == len(text)) else None
    try:
        midnight = datetime(int(year), month, day)
    except ValueError:
        return None
    return _with_time(midnight, text[found.end() :])


def _with_time(midnight: datetime, rest: str) -> str:
    """The date with the time that follows it, if any. Phones that count hours from 1 write 24:10 for ten past midnight
    of the same day; a second 60 was rounded up."""
    found = _TIME.match(rest) or _PACKED_TIME.match(rest)
    if not found:
        return midnight.date().isoformat()
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if found.re is _TIME and found[4]:
        hour = hour % 12 + (12 if found[4] in "Pp" else 0)
    if hour > 24 or minute > 59 or second > 60:
        return midnight.date().isoformat()
    try:
        return (midnight + timedelta(hours=hour % 24, minutes=minute, seconds=second)).isoformat()
    except OverflowError:  # the last second of the year 9999
        return midnight.date().isoformat()


def _year_last(text: str) -> str | None:
    """'31:12:2024 ...'; the year alone if the day and the month are ambiguous."""
    if not (found := _DAY_LAST.match(text)):
        return None
    one, other, year = int(found[1]), int(found[2]), int(found[3])
    if not (1 <= min(one, other) <= 12 and max(one, other) <= 31):
        return None
    if max(one, other) <= 12 and one != other:
        return found[3]
    try:
        day = date(year, min(one, other), max(one, other))
    except ValueError:
        return None
    return _with_time(datetime(day.year, day.month, day.day), text[found.end() :])


def _in_words(text: str) -> str | None:
    """'Wed, 01 May 2024 12:30:00 +0200', or as C writes it: 'Wed May  1 12:30:00 2024'."""
    parts = parsedate(text) if text[:1].isalpha() and text[-1:].isalnum() else None
    try:
        return datetime(*parts[:6]).isoformat() if parts else None
    except ValueError:
        return None
