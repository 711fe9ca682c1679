"""Personal data in captions: addresses of e-mail and telephone numbers, found and masked."""

from __future__ import annotations

import re

MASK = "•••"
_AT = r"(?:@|\s?(?:\[\s?at\s?\]|\(\s?at\s?\)|\{\s?at\s?\})\s?)"
_DOT = r"(?:\.|\s?(?:\[\s?dot\s?\]|\(\s?dot\s?\))\s?)"
_MAIL = re.compile(rf"[\w.+-]{{1,64}}{_AT}[\w-]{{1,63}}(?:{_DOT}[\w-]{{2,63}})+", re.IGNORECASE)
# Numbers that look like telephone numbers and are none: codes of books, coordinates, years and dates.
_OTHER = re.compile(
    r"\b(?:ISBN|ISSN|EAN|UPC|GTIN|SKU|ASIN|DOI)[-\s]?(?:1[03])?[:\s#]*[\dX][\dX\s-]*|\b97[89][\s-]\d[\d\s-]{8,}"
    r"|[-+]?\d{1,3}\.\d{3,}°?\s*[NS]?\s*[,;/ ]\s*[-+]?\d{1,3}\.\d{3,}|\d{1,3}\s?°[^a-z]*"
    r"|\b(?:1[5-9]|20)\d\d\s?[-–/]\s?(?:1[5-9]|20)?\d\d\b|\b\d{4}[-./]\d{2}[-./]\d{2}\b|\b\d{2}[-./]\d{2}[-./]\d{4}\b",
    re.IGNORECASE,
)
_GAP = r"[\s().\u2010-\u2015/-]{0,3}"
_KEYWORD = (
    r"(?:\b(?:tele(?:phone|fono|foon|fon|fone)|téléphone|teléfono|t[eé]l[ée]?f?|fon|phone|ph|call|text|fax|mob(?:ile|il)?|móvil|cell?|celular"
    r"|handy|whats\s?app|viber|sms|ring|rufen|anrufen|llam(?:ar?|e)|appele[rz]|ligue|chiama(?:re)?|bel|dzwoń|tlf|hotline|kontakt|contact)\b"
    r"|тел(?:ефон)?|звони(?:те|ть)?|моб|电话|電話|手机|微信|전화|휴대폰|هاتف|جوال|واتساب|फोन|मोबाइल|☎|📞|📱)"
)
_PHONES = (
    rf"(?<![\w.])(?:\+|00)[1-9]\d{{0,2}}(?:{_GAP}\d){{7,12}}(?![\w%])",  # international
    r"(?<![\w.])(?:1[-. ])?\(\d{3}\)\s?\d{3}[-. ]\d{4}(?!\w)",  # North America
    r"(?<![\w.-])(?:1[-.])?\d{3}(?:-\d{3}-|\.\d{3}\.)\d{4}(?![\w-])",
    r"(?<![\w.])0\d(?:[ .-]\d{2}){4}(?![\w-])",  # France
    r"(?<!\w)[78][\s-]?\(\d{3,5}\)[\s-]?\d{1,3}[\s-]\d{2}[\s-]?\d{2}(?!\w)",  # Russia
    r"(?<!\w)\(\d{2,5}\)\s?\d{3,5}[ -]\d{3,4}(?!\w)",  # Brazil, Germany, Australia
    r"(?<![\w.,/-])0\d{2,4}[ /-]{1,3}\d{3,4}(?:[ -]?\d{2,4}){1,2}(?![\w-])",  # United Kingdom, Germany, Japan
    r"(?<![\w.-])0[1-9]-\d{4}-\d{4}(?![\w-])",
    r"(?<![\w.-])1[3-9]\d[ -]\d{4}[ -]\d{4}(?![\w-])",  # China
    rf"{_KEYWORD}\W{{0,4}}(?:us|now|today|me|al|au|el|le|no|nr|number|uns|at|on|by|hoy|maintenant|jetzt)?\W{{0,4}}(?:us|now|today|at|on)?\W{{0,3}}"
    rf"\+?\d(?:{_GAP}\d){{6,13}}(?!\w)",
)
_PHONE = re.compile("|".join(f"(?:{each})" for each in _PHONES), re.IGNORECASE)
_DIGITS = re.compile(r"\d")
_LEAST_DIGITS = 7  # of a telephone number


def personal_data(text: str) -> str:
    """What kind of personal data a text has: "e-mail", "telephone", or "" for none. Years, dates, coordinates and the
    numbers of books are none."""
    if any(sign in text for sign in "@[({") and _MAIL.search(text):
        return "e-mail"
    return "telephone" if _telephones(text) else ""


def _telephones(text: str) -> list[tuple[int, int]]:
    """Where telephone numbers stand: start and end (exclusive) of each."""
    if text.isalpha() or len(_DIGITS.findall(text)) < _LEAST_DIGITS:
        return []
    others = [found.span() for found in _OTHER.finditer(text)]
    spans = []
    for found in _PHONE.finditer(text):
        inside = any(start < found.end() and found.start() < stop for start, stop in others)
        if not inside and len(_DIGITS.findall(found[0])) >= _LEAST_DIGITS:
            start = re.search(r"[+(]*\d", found[0])  # what announces a number is no personal data
            spans.append((found.start() + (start.start() if start else 0), found.end()))
    return spans


def masked(text: str) -> str:
    """The text with "•••" for addresses of e-mail and telephone numbers, as reports show it."""
    for start, stop in reversed(_telephones(text)):
        text = text[:start] + MASK + text[stop:]
    return _MAIL.sub(MASK, text)
