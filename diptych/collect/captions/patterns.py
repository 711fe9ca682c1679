"""Codes in captions that say nothing of a picture: addresses, exposures, prices, sizes, dates, credits. Each pattern
takes what it matches, and what is left of the caption is judged."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

_I = re.IGNORECASE
IMAGE_SUFFIX = (
    r"\.(?:jpe?g|jfif|png|gif|webp|tiff?|bmp|svg|psd|avif|heic|ico|eps|raw|cr2|nef|mp4|mov|pdf|html?|aspx?|php)"
)


class Pattern(NamedTuple):
    """What a rule takes. It is looked for only in captions with one of the signs of `gate` ("0": any digit)."""

    rule: str
    gate: tuple[str, ...]
    found: re.Pattern[str]


def _any(*alternatives: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), flags)


# Credits. Names are told by their capitals, so that these expressions heed case but for the words before a name.
_NAME = r"(?:(?:[A-ZÀ-ÞА-Я][\w.'’-]*|(?:de|da|di|del|van|von|der|den|la|le|bin|al|y|e)\b|&)[ ]?)"
_CREDITED = (
    r"(?i:photo(?:graph(?:y|ed)?|s)?|images?|picture|pic|fotos?|fotografía|bild(?:er)?|imagen|immagine|imagem"
    r"|illustration|illustrated|drawing|artwork|video|shot|taken|фото|фотография|crédits?(?: photos?)?|credits?"
    r"|credit line|créditos?|bildquelle|bildnachweis|fotocredit|fotoquelle|quelle|source|sources|fuente|fonte|źródło"
    r"|fot\.?|bron|источник|photographer|fotograf|copyright|courtesy|grafik|design)"
)
# One of these words is in a caption that the pattern of credits matches, or it begins with one of _BY.
_BY = ("By ", "Von ", "Par ", "Por ")
_CREDIT_WORDS = frozenset(
    """photo photos photograph photographed photography photographer image images picture pic foto fotos
    fotografía fotograf bild bilder imagen immagine imagem illustration illustrated drawing artwork video shot
    taken crédit crédits credit credits crédito créditos bildquelle bildnachweis fotocredit fotoquelle quelle
    source sources fuente fonte źródło fot bron источник фото фотография photographs copyright courtesy gentile
    撮 写 提 图 摄 攝 사진 फोटो फ़ोटो تصوير צילום cortesía l'aimable grafik design""".split()  # noqa: SIM905
)
_AGENCY = (
    r"(?i:Reuters|AP|AFP|dpa|EPA|ANSA|EFE|APA|PTI|ANI|TASS|Xinhua|Getty(?:\s?Images)?|i?Stock(?:photo)?|Shutterstock"
    r"|Alamy|NASA|ESA|Pixabay|Unsplash|Pexels|Wikipedia|Wikimedia(?:\s?Commons)?|Flickr|Freepik|Imago"
    r"|picture[\s-]alliance|Adobe\s?Stock|Fotolia|Depositphotos|Bloomberg|PA|Instagram|Facebook|Twitter|YouTube"
    r"|РИА\s?Новости|ТАСС|AAP|CNN|BBC|IANS)"
)
_CREDIT = _any(
    # "Photo: Reuters/Jim Young", "Foto: dpa", "Credit: AP Photo"
    rf"\(?\b{_CREDITED}\s?(?i:credits?|courtesy|by|von|par|por|di|of)?\s?[:：/|]\s?(?:@?{_NAME}{{0,4}}[/|,-]\s?)?"
    rf"{_AGENCY}\b(?:\s?/\s?{_NAME}{{1,4}})*(?i:\s(?:photo|via|images)\s?{_NAME}{{0,3}})?\)?",
    # "Photo by Annie Spratt on Unsplash", "Foto von Hans Müller"
    r"\(?\b(?i:photo(?:graph|graphed|graphy|s)?|images?|picture|foto|fotos|bild|pic|illustration|artwork|shot|taken)"
    rf" (?i:by|von|par|por|credits? to|courtesy(?: of)?|© )\s?:?\s?@?{_NAME}{{1,4}}"
    rf"(?:(?i:on|via|from|for|/|\|)\s?{_NAME}{{1,3}})?\)?",
    # "Foto: Hans Müller", "Crédit photo : Jean Dupont"
    rf"\(?\b{_CREDITED}(?i:\s(?:credits?|by|courtesy(?: of)?))?\s?[:：]\s?@?{_NAME}{{1,2}}"
    rf"(?:/\s?{_NAME}{{1,3}})?(?=[.,;|)\]\s]*$|[|)\]])\)?",
    # "Photo/John Doe"
    rf"^{_CREDITED}\s?/\s?{_NAME}{{2,3}}$",
    # "By John Smith", "撮影：山田太郎", "사진=연합뉴스"
    rf"^(?:By|Von|Par|Por) {_NAME}{{2,3}}$",
    r"\b(?:撮影|写真|提供|图片|图源|摄影|摄|攝影|사진|फोटो|फ़ोटो|تصوير|צילום)\s?[:：=/]\s?[^\s,、。]{1,8}$",
    r"\b(?i:courtesy(?: photo)?(?: of| :|:)?|per gentile concessione di|cortesía de|avec l'aimable autorisation de)"
    rf"\s?{_NAME}{{1,5}}",
    flags=re.RegexFlag(0),
)
_COPYRIGHT = _any(r"\(?(?:©|\(c\)|ⓒ|&copy;|\bcopyright\b)\s*(?:©|\(c\))?[^.|;)!\n]*(?:\.(?=\S)[^.|;)!\s]*)*\)?")
_CODE_LABEL = (
    r"(?:isbn(?:-?1[03])?|issn|asin|sku|mpn|gtin|ean(?:-?13)?|upc|vin|oem|p/n|part(?:\s?(?:no|number|#|nr))?"
    r"|item(?:\s?(?:no|number|code|#))?|model(?:\s?(?:no|number|#))?|serial(?:\s?(?:no|number))?"
    r"|stock(?:\s?(?:no|number|#))?|product\s(?:code|id|no)|ref(?:erence|erencia)?|réf(?:érence)?"
    r"|art(?:icle|ikel)?\.?[\s-]?(?:nr|no|nummer)|artikelnummer|bestell[\s-]?(?:nr|nummer)|teilenummer"
    r"|order\s(?:no|number)|cat(?:alog(?:ue)?)?\s?(?:no|number)|inv(?:entory)?\.?\s?(?:no|number|nr)"
    r"|accession\s(?:no|number)|código|cod|codice|артикул|арт|код(?:\sтовара)?|型番|品番|货号|型号|商品番号|품번|lot|id|doi)"
)
_UNIT = r"(?:px|pixels?|cm|mm|m|in(?:ch(?:es)?)?|[\"″])"
_CURRENCY = r"(?:[€£¥₽₹₩₺]|\b(?:eur|euros?|usd|chf|руб(?:лей|ля|\.)?|р\.|грн|zł|kč|kr|ft|лв|円|元|원|tl)(?!\w))"
PATTERNS = (
    Pattern("address", (":", "."), _any(r"\b(?:https?|ftp)\s?:\s?/{1,2}\S*", r"\bwww\.\S+")),
    Pattern("copyright", ("©", "(c)", "ⓒ", "&copy;", "copyright"), _COPYRIGHT),
    Pattern("copyright", (), _CREDIT),
    Pattern("file-name", (".",), _any(
        rf"^(?:file|image|datei|fichier|archivo|файл):\s?(?=.*{IMAGE_SUFFIX}$)", rf"{IMAGE_SUFFIX}$",
    )),
    Pattern("camera", ("0",), _any(
        r"(?<!\w)[fƒ]\s?/?\s?\d{1,2}(?:[.,]\d)?(?:-\d+(?:\.\d)?)?[A-Z]?\b(?=[\s,;|)]|$)",
        r"\b1/\d{1,5}\s?(?:s|sec|seconds?)?\b(?=[\s,;|)]|$)", r"\bISO[\s:-]?\d{2,6}\b",
        r"\b\d+(?:\.\d+)?[″\"]?\s?sec\b",
        r"\b(?:[A-Z]{1,3}\s?)?\d{1,4}(?:-\d{1,4})?\s?mm(?:\s?f/\S+)?\b(?=.*(?:\bf/|ƒ|\bISO|1/\d))",
        r"(?<=[\d/.]\s)\d{1,4}\s?mm\b(?=.*ISO|$)",
    )),
    Pattern("identifier", ("0",), _any(
        rf"\b{_CODE_LABEL}\b\.?\s?(?:no|nr|number)?\.?\s?[:#№.]*\s?\#?(?=[^\s,;]*\d)[\w./-]+"
        r"(?:[ -](?=[\w/-]*\d)[\w/-]+){0,5}",
        r"\b97[89][\s-]?\d{1,5}[\s-]?\d+[\s-]?\d+[\s-]?[\dX]\b", r"(?<!\w)[#№]\s?\d{3,}\b", r"\b\d{11,}\b",
    )),
    Pattern("price", ("0",), _any(
        r"(?:[$€£¥₹₽₩₺฿]|\b(?:US|CA|AU|NZ|HK|R|C|A)\$|\b(?:usd|eur|gbp|chf|inr|rs\.?|rp|kr)\b\.?)\s?"
        r"\d[\d\s.,'’]*\d?(?:,?-{1,2}|,–)?",
        rf"\d[\d\s.,'’]*(?:,?-{{1,2}}|,–)?\s?{_CURRENCY}",
        r"[-+]?\d{1,3}\s?%\s?(?:off|rabatt|de descuento|de réduction|sconto|скидка|indirim)?(?!\w)", r"\d+\s?[円元원]",
    )),
    Pattern("dimensions", ("0",), _any(
        rf"\b\d+(?:[.,]\d+)?\s?{_UNIT}?\s?[x×✕*]\s?\d+(?:[.,]\d+)?\s?{_UNIT}?"
        rf"(?:\s?[x×✕*]\s?\d+(?:[.,]\d+)?\s?{_UNIT}?)?(?!\w)",
        r"\b\d+(?:[.,]\d+)?\s?(?:px|pixels?|kb|mb|gb|kib|mib|bytes|dpi|cm|mm|kg|ml|oz|lbs?|inch(?:es)?|см|мм|кг|мл)\b",
    )),
    Pattern("date", ("0",), _any(
        r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}[:.]\d{2}\S*", r"\b\d{1,4}[-./]\d{1,2}[-./]\d{1,4}\b",
        r"\b\d{1,2}[:.h]\d{2}(?:[:.]\d{2})?\s?(?:am|pm|uhr|h)?\b", r"\b\d{1,2}(?:st|nd|rd|th|er|º|ª)\b",
        r"\b\d+\s?(?:min|mins|minutes?|hours?|hrs?|days?|weeks?|months?|years?)\s(?:ago|read)\b",
        r"\d{1,4}\s?[年月日년월일]", r"\b\d{1,2}\s?(?:am|pm)\b",
    )),
)  # fmt: skip
_CAMERAS = _any(
    r"\b(?:Canon|Nikon|NIKKOR|Sony|Fuji(?:film|non)?|Olympus|Pentax|Panasonic|Lumix|Leica|Sigma|Tamron|Tokina|Zeiss"
    r"|Hasselblad)\b(?:\s(?:Corporation|EOS|Rebel|Mark|[IVX]+|USM|STM|IS|VR|DG|HSM|OSS|GM|FE|EF(?:-[SM])?|L|Art|Kiss"
    r"|digital|(?=\S*\d)\S+))*",
    r"\b(?:EF(?:-[SM])?|RF|FE|AF-S|L|USM|STM|EOS|Mark|II|III|IV|lens|aperture|shutter|exposure|focal|length)\b",
    r"\b[A-Z]{1,2}\d{1,3}-\d{2,3}\S*",
)


def mark_of(index: int) -> str:
    """The character that stands in a caption for what the rule of this number took. It is a noncharacter of Unicode,
    which no text has."""
    return chr(0xFDD0 + index)


def may_credit(text: str, tokens: Collection[str]) -> bool:
    """Whether a caption of these words may name who made the picture; the pattern of credits is slow."""
    return text.startswith(_BY) or not _CREDIT_WORDS.isdisjoint(tokens)


def taken(text: str, rules: Collection[str], order: tuple[str, ...], *, credited: bool = True) -> str:
    """The caption with a mark instead of all that the patterns of these rules match; `order` numbers the rules.
    `credited` False leaves out credits, for a caption that has none (`may_credit`)."""
    has_digit = any(map(str.isdigit, text))
    lower = text.casefold()
    for rule, gate, found in PATTERNS:
        is_possible = has_digit if gate == ("0",) else not gate or any(sign in lower for sign in gate)
        if rule in rules and is_possible and (credited or found is not _CREDIT):
            mark = f" {mark_of(order.index(rule))} "
            text = found.sub(mark, text) if rule != "camera" else _exposures(found, text, mark)
    return text


def _exposures(found: re.Pattern[str], text: str, mark: str) -> str:
    """Takes exposures if there are two, and then the names of cameras and lenses, which stand among them."""
    if len(found.findall(text)) < 2:
        return text
    return _CAMERAS.sub(mark, found.sub(mark, text))
