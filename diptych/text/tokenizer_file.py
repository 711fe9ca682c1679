"""Opens an untrusted tokenizer.json with `tokenizers`. Some files make that library end the program, take all memory or
run for hours, so each file is checked first and then tried in a child process."""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers

from diptych.errors import JSONError, TokenizerFileError
from diptych.storage.user.cache_folder import cache_folder
from diptych.untrusted.json import parse_json

# The largest values of known tokenizers are in brackets.
MAX_BYTES = 64 << 20  # (Gemma's 34 MB)
MAX_TOKENS, MAX_TOKEN_LENGTH = 2**20, 512  # words of the vocabulary (256,000), and characters of one (128)
MAX_ADDED = 2**16  # tokens added to it (some thousands)
MAX_PARTS, MAX_DEPTH = 64, 8  # normalizers and the like (10), nested (3)
MAX_PATTERN = 4096  # characters (350)
MAX_GROWTH = 64  # factor by which replacements may lengthen a text (3)
MAX_WORD = 1000  # characters of a word that WordPiece looks up in quadratic time (100)
MAX_MARKS = 256  # tokens put around a text (2)
MAX_CHARSMAP = 8 << 20  # characters of base64 (316,000)
KEPT = "tokenizers"  # the name in the user's cache
_TRIED_S, _TRIED_BYTES = 60, 4 << 30
_REMEMBERED = 256  # files
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
# The child imports `tokenizers` alone. Its texts resemble real ones, or are hard for regular expressions.
_TRY = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
except (ImportError, OSError, ValueError):
    pass
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_str(sys.stdin.buffer.read().decode())
tokenizer.no_padding()
tokenizer.no_truncation()
runs = ["a", " ", "1", ".", "\\n", "_", "é", "a ", "a1", "'s", "中", "\\u0301", "<", "aA"]
texts = ["", "a photo of a cat", "Crème brûlée, 3 × 2! 日本語 🎉 e\\u0301"] + [run * 300 + "~" for run in runs]
for text in texts:
    try:
        tokenizer.decode(tokenizer.encode(text).ids)
    except Exception:  # an unknown word; reported when a real text has it
        pass
"""


def open_tokenizer(text: str, *, is_ours: bool = False) -> tokenizers.Tokenizer:
    """The tokenizer of a tokenizer.json's text. With `is_ours`, the text is from this package or was made here, and is
    not checked. The user's cache records texts that passed. Raises TokenizerFileError."""
    mark = b""
    if not is_ours and not _is_remembered(
        mark := hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest()
    ):
        check(text)
        _try(text)
    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except BaseException as error:
        raise _unless_ours(error) from error
    if mark:
        _remember(mark)
    return tokenizer


def is_panic(error: BaseException) -> bool:
    """Whether it is a panic inside `tokenizers`, which is a BaseException but no Exception."""
    return type(error).__name__ == "PanicException"


def _unless_ours(error: BaseException) -> TokenizerFileError:
    if isinstance(error, Exception) or is_panic(error):
        return TokenizerFileError(f"this is no tokenizer.json ({error}); take the file from the model's folder.")
    raise error


def check(text: str) -> None:
    """Raises TokenizerFileError if the text is not JSON or would take unbounded memory or time."""
    try:
        content = parse_json(text, max_bytes=MAX_BYTES)
    except JSONError as error:
        raise TokenizerFileError(
            f"this is no tokenizer.json ({error}); take the file from the model's folder."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise TokenizerFileError("this is no tokenizer.json (it has no model); take the file from the model's folder.")
    _check_words(content["model"], content.get("added_tokens"))
    growth, marks = 1.0, 0
    parts = list(itertools.islice(_parts(content), MAX_PARTS + 1))
    _within("parts", len(parts), MAX_PARTS)
    for part in parts:
        _check_part(part)
        growth *= _growth(part)
        marks += _marks(part)
    _within("times by which it lengthens a text", growth, MAX_GROWTH)
    _within("tokens around a text", marks, MAX_MARKS)


def check_vocabulary(words: int, merges: int) -> None:
    """Raises TokenizerFileError if a vocabulary has too many words or merges."""
    _within("words", words, MAX_TOKENS)
    _within("merges", merges, 4 * MAX_TOKENS)


def _within(unit: str, count: float, most: float) -> None:
    if count > most:
        raise TokenizerFileError(f"its tokenizer.json has {count:,.10g} {unit}; at most {most:,} are read.")


def _check_words(model: dict[str, Any], added: object) -> None:
    vocabulary, added = model.get("vocab"), added if isinstance(added, list) else []
    vocabulary = vocabulary if isinstance(vocabulary, (dict, list)) else []
    check_vocabulary(len(vocabulary), len(model.get("merges") or ()))
    _within("added tokens", len(added), MAX_ADDED)
    words = (word[0] if isinstance(word, list) and word else word for word in vocabulary)
    words = itertools.chain(words, (str(each.get("content")) for each in added if isinstance(each, dict)))
    _within(
        "characters in a word", max((len(word) for word in words if isinstance(word, str)), default=0), MAX_TOKEN_LENGTH
    )
    most = model.get("max_input_chars_per_word")
    _within("characters a word looked up", most if isinstance(most, int) else 0, MAX_WORD)


def _parts(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All normalizers, pre-tokenizers, processors and decoders, also those in sequences."""
    waiting = [(content.get(name), 1) for name in _PARTS]
    while waiting:
        part, depth = waiting.pop()
        if not isinstance(part, dict):
            continue
        _within("parts within each other", depth, MAX_DEPTH)
        yield part
        for value in part.values():
            if isinstance(value, list):
                waiting += [(each, depth + 1) for each in value if isinstance(each, dict) and "type" in each]


def _check_part(part: dict[str, Any]) -> None:
    pattern = part.get("pattern")
    for kind in ("Regex", "String"):
        if isinstance(pattern, dict) and isinstance(expression := pattern.get(kind), str):
            _within("characters in a pattern", len(expression), MAX_PATTERN)
            if kind == "Regex" and _is_slow(expression):
                raise TokenizerFileError(
                    f"its tokenizer.json has the pattern {expression[:80]!r}, with nested repetition."
                )
    if part.get("type") == "FixedLength" and not part.get("length"):
        raise TokenizerFileError("its tokenizer.json splits texts into pieces of length 0.")
    charsmap = part.get("precompiled_charsmap")
    if isinstance(charsmap, str):
        _within("characters of a character map", len(charsmap), MAX_CHARSMAP)
        _check_charsmap(charsmap)


def _check_charsmap(charsmap: str) -> None:
    """Checks the length of the index at the start of the map, which `tokenizers` trusts."""
    try:
        content = binascii.a2b_base64(charsmap, strict_mode=True)
    except ValueError:
        content = b""
    length = int.from_bytes(content[:4], "little")
    if len(content) < 4 or length % 4 or 4 + length > len(content):
        raise TokenizerFileError("its tokenizer.json has a damaged character map (precompiled_charsmap).")


def _is_slow(pattern: str) -> bool:
    """Whether an unbounded repetition is nested in another, as in (a+)+, which can take exponential time. Possessive
    and atomic repetitions are safe."""
    bare = re.sub(r"\\[pP]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]", "x", pattern, flags=re.S)
    repeats = [False]  # for each open group, whether it holds a repetition
    for token in re.finditer(r"\((?:\?(?:[:=!>|]|<[=!]|[imx-]+:?|<\w+>))?|\)|(?:[*+]|\{\d+,\})[+?]?", bare):
        if token[0].startswith("("):
            repeats.append(False)
        elif token[0] == ")":
            holds = len(repeats) > 1 and repeats.pop()
            if holds and re.match(r"[*+](?!\+)|\{\d+,\}|\{\d*,?\d{3,}\}", bare[token.end() :]):
                return True
            repeats[-1] |= holds
        elif not token[0].endswith("+") or len(token[0]) == 1:
            repeats[-1] = True
    return False


def _growth(part: dict[str, Any]) -> float:
    """The factor by which a part may lengthen a text."""
    content, pattern = part.get("content"), part.get("pattern")
    if part.get("type") == "Prepend":
        return 1 + len(str(part.get("prepend"))) / 16
    if part.get("type") != "Replace" or not isinstance(content, str):
        return 1
    found = pattern.get("String") if isinstance(pattern, dict) else None
    return max(1, len(content.encode(errors="replace")) / (len(found.encode(errors="replace")) if found else 1))


def _marks(part: dict[str, Any]) -> int:
    """The number of tokens that a processor may put around a text."""
    special = part.get("special_tokens")
    listed = list(special.values()) if isinstance(special, dict) else []
    most = max((len(each.get("ids") or ()) for each in listed if isinstance(each, dict)), default=1)
    single = part.get("single")
    return len(single) * max(most, 1) if isinstance(single, list) else 0


def _try(text: str) -> None:
    """Open it and encode some texts in a child process. Raises TokenizerFileError if that crashes, fails or does not
    end."""
    import subprocess  # here, because it is needed only once per file

    paths = [str(Path(tokenizers.__file__).parents[1]), *(path for path in sys.path if isinstance(path, str))]
    command = [sys.executable, "-I", "-c", _TRY, json.dumps(paths), str(_TRIED_BYTES)]
    try:
        done = subprocess.run(command, input=text.encode(errors="replace"), capture_output=True, timeout=_TRIED_S)
    except subprocess.TimeoutExpired:
        raise TokenizerFileError(f"its tokenizer.json keeps a process busy for {_TRIED_S} s.") from None
    except OSError:  # processes cannot be started here; `check` must suffice
        return
    if done.returncode == 1:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        message = last.partition(": ")[2] or last
        raise TokenizerFileError(f"this is no tokenizer.json ({message[:300]}); take the file from the model's folder.")
    if done.returncode:
        raise TokenizerFileError("its tokenizer.json ends the process that opens it; take the file from elsewhere.")


def _is_remembered(mark: bytes) -> bool:
    with contextlib.suppress(OSError, RuntimeError):
        return (cache_folder(KEPT) / _name(mark)).is_file()
    return False


def _remember(mark: bytes) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        folder = cache_folder(KEPT)
        if (folder / _name(mark)).is_file():
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _name(mark)).touch()
        for old in sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)[_REMEMBERED:]:
            old.unlink(missing_ok=True)


def _name(mark: bytes) -> str:
    """Includes the library's version: another version may fail on a file that this one reads."""
    return f"{mark.hex()}-{tokenizers.__version__}"
