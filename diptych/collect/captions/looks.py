"""What a whole caption looks like: the name of a file, an address, a code, program text."""

from __future__ import annotations

import re
from collections.abc import Collection

from diptych.collect.captions.patterns import IMAGE_SUFFIX

_I = re.IGNORECASE
# What cameras, telephones and programs call their files, with or without a suffix, and what others call theirs.
_FILE_NAMES = re.compile(
    r"(?:\d+px-)?[_~(]{0,2}(?:(?:IMG|DSC[NF]?|_?MG|DCIM|PICT|PXL|MVI|MOV|VID|SAM|CIMG|SCAN|WP|HPIM|IMAG|GOPR?|DJI|PANO|BURST|SNC|STA"
    r"|STC|P|R|S|L|KIMG|IMGP|DSCI|FB_IMG|FullSizeRender|received|signal|photo|image|img|pic|picture|foto|bild|slide"
    r"|untitled|unnamed|screenshot|screen[\s_-]?shot|bildschirmfoto|whatsapp[\s_-](?:image|video)|capture|download|scan"
    r"|file|copy|temp|tmp|новый[\s_]рисунок|изображение|снимок)[\s_-]*(?:\(?\d[\w\s.()~-]*|at\s\d[\w\s.]*)"
    r"|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?=[0-9a-f]*\d)[0-9a-f]{16,}|\d{5,}(?:_[\dno]+)+"
    r"|\d{8}[_-]\d{4,}\w*|(?:unnamed|untitled|download|images?)\s?\(\d+\)|\d{1,4}|[a-z]{1,3}\d{2,})"
    rf"(?:{IMAGE_SUFFIX})?(?:\s?\(\d+\)|\s?[-–]\s?(?:copy|kopie|copia))?(?:{IMAGE_SUFFIX})?",
    _I,
)
# A name without spaces that has one of these parts is a web designer's.
_PARTS = frozenset(
    """bg img image images pic slide slider thumb thumbnail thumbnails header footer banner hero logo icon btn
    button large small medium full final draft copy new v1 v2 v3 web hd scaled crop cropped resize resized original
    orig default desktop mobile tablet sprite placeholder product feature featured cover background main gallery
    lightbox carousel left right top bottom 1x 2x 3x hover photo photos foto pattern shape blog post page home
    homepage index ico svg png jpg webp""".split()  # noqa: SIM905
)
_NAME_PART = re.compile(r"[_\-.\s]+")
_DOMAIN = re.compile(
    r"(?:[\w-]+\.)+(?:com|org|net|de|fr|es|it|nl|co|uk|io|info|ru|cn|jp|in|br|pl|eu|ch|at|be|au|ca|us|tv|me|edu|gov|biz"
    r"|shop|app|dev)(?:/\S*)?",
    _I,
)
_HANDLE = re.compile(r"@[\w.]{2,}")
_CODE = re.compile(r"(?=.*\d)[A-Z0-9][A-Z0-9./_#-]*", _I)
_MARKUP = re.compile(
    r"\bdata:(?:image|text|application)/|</?[a-z!][a-z0-9-]*(?:\s[^<>]*)?/?>|<\?(?:php|=|xml)|&lt;/?[a-z]|\{\{.*\}\}"
    r"|\{%.*%\}|\$\{[^}]*\}|\$\([^)]*\)|<%|%>|%[a-z_]{3,}%|\[/?(?:gallery|caption|embed|img|url|vc_|et_pb|/)[^\]]*\]"
    r"|\[\[.*\]\]|\bfunction\s?\(|\breturn (?:false|true);|[\w-]+\s?:\s?[^;:]{1,40};(?:\s*[\w-]+\s?:|\s*$|\s*\})"
    r"|^\s*[\[{]\s?\"[^\"]*\"\s?[:,\]]|@(?:media|import|font-face)\b|\bvar \w+\s?=|\bdocument\.\w+|\bwindow\.\w+"
    r"|\bconsole\.log|^[#.][\w-]+(?:\s[.#]?[\w-]+)*\s*(?:\{|$)|^(?:\.{1,2})?/[\w./-]+$|\bsrc\s?=\s?[\"']|\bhref\s?="
    r"|\bclass\s?=\s?[\"']|&(?:nbsp|amp|quot|#\d+);|^\{[\w.]+\}$|\[object Object\]|^__\w+__$|^[a-z]+(?:\.[a-z_]+)+$"
    r"|^[\w]+\(\)$|<!--|-->|\\u[0-9a-f]{4}|^:[\w]+:$",
    _I,
)
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d")


def whole_caption(text: str, rules: Collection[str]) -> str | None:
    """The rule that a caption as a whole falls under by its look: the name of a file, an address, a code."""
    solid = " " not in text
    if "file-name" in rules and (
        (_FILE_NAMES.fullmatch(text) and not text.isalpha()) or (solid and _is_file_name(text))
    ):
        return "date" if "date" in rules and _YEAR.fullmatch(text) else "file-name"
    if "address" in rules and (solid or text.count(" ") < 3) and _is_address(text):
        return "address"
    if "identifier" in rules and _is_code(text):
        return "identifier"
    return None


def _is_file_name(text: str) -> bool:
    stem, dot, _ = text.rpartition(".")
    parts = [part.casefold() for part in _NAME_PART.split(text) if part]
    if dot and re.fullmatch(rf".*{IMAGE_SUFFIX}", text, _I):
        return bool(stem)
    return len(parts) > 1 and any(part in _PARTS for part in parts)


def _is_address(text: str) -> bool:
    words = text.split()
    return bool(words) and all(_DOMAIN.fullmatch(word) or _HANDLE.fullmatch(word) for word in words)


def _is_code(text: str) -> bool:
    """Whether all words are codes, and one of them is long: "06A-133-063-H" is, "F-16" and "BMW M3" are not."""
    words = text.split()
    codes = [word for word in words if _CODE.fullmatch(word)]
    return len(codes) == len(words) and any(_is_long_code(word) for word in words)


def _is_long_code(word: str) -> bool:
    if word.count("-") > 1 and not word.islower():
        return True
    return len(word) >= 7 and sum(map(str.isdigit, word)) >= 4


def has_markup(text: str) -> bool:
    """Whether a caption has tags, entities, variables of a template, style sheets or program code in it."""
    return any(sign in text for sign in "<>{}[]&;=%()$#@/_.:\\") and _MARKUP.search(text) is not None
