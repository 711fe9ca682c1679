"""Makes diptych/collect/captions/visible/words.txt and weights.toml.

apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
pip download --no-deps django wagtail django-oscar django-machina django-cms mezzanine indico flaskbb -d wheels
python recipes/captions/words.py words --wordnet wordnet/usr/share/wordnet --captions captions.txt --wheels wheels
python recipes/captions/words.py weights --captions captions.txt \
    tests/collect/captions/{first,second,third,learnt}.jsonl    # also prints what each list gets from the others

held_out.jsonl is not to be learnt from. `captions.txt` has captions of photographs, one a line (COCO's and
Flickr8k's). The wheels bring the texts of web applications in some thirty languages (gettext's catalogues; BSD and MIT
licences); words alone are taken from them.
"""

from __future__ import annotations

import argparse
import gettext
import io
import json
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import log1p, log10
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diptych.collect.captions.languages import all_function_words
from diptych.collect.captions.letters import tokens_of
from diptych.collect.captions.rules import CaptionRules
from diptych.collect.captions.visible import meaning, words
from diptych.collect.captions.visible.properties import properties
from diptych.collect.pairs import Words

FOLDER = Path(words.__file__).parent
# How visible the meanings of a file of lexicographers are (man 5 lexnames): nouns to 28, verbs from 29.
VISIBLE = {
    3: 0.5, 4: 0.2, 5: 1, 6: 0.92, 7: 0.2, 8: 1, 9: 0, 10: 0.1, 11: 0.25, 12: 0, 13: 1, 14: 0.25, 15: 0.6, 16: 0, 17: 1,
    18: 0.8, 19: 0.35, 20: 1, 21: 0.1, 22: 0.1, 23: 0.2, 24: 0, 25: 0.8, 26: 0.1, 27: 0.85, 28: 0.1, 29: 0.8, 30: 0.3,
    31: 0, 32: 0.1, 33: 0.4, 34: 0.8, 35: 0.8, 36: 0.5, 37: 0.1, 38: 0.7, 39: 0.3, 40: 0.1, 41: 0.15, 42: 0.1, 43: 0.7,
}  # fmt: skip
OTHER = 0.35  # adjectives, adverbs, and words that captions alone have
LANGUAGES = frozenset(
    "de fr es it pt nl pl sv da nb cs ro hu tr fi id vi ru uk bg el ar he ja ko zh ca hr sk sl".split()  # noqa: SIM905
)
LEAST_KNOWN = 2.5  # counts of senses and captions: rarer words of WordNet are left out, like names
LEAST_UNSEEN, LEAST_SEEN = 0.9, 0.5  # the same for those that clearly cannot, or can, be seen
UNSEEN, SEEN = 0.34, 0.8
LEAST_FOREIGN = 5
PENALTY = 5.0
REFUSED = 0.1  # the weight of captions that other rules refuse, and of captions of photographs
EVERY = 40  # captions of photographs: so many of them for one that is learnt from


def senses(folder: Path) -> dict[str, list[tuple[str, int, float]]]:
    """For each word of WordNet its senses: part of speech, file of lexicographers, weight."""
    parts = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
    files: dict[tuple[str, str], int] = {}
    for part, name in parts.items():
        for line in (folder / f"data.{name}").read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):
                offset, file, _ = line.split(" ", 2)
                files[part, offset] = int(file)
    counts: Counter[tuple[str, str, int]] = Counter()
    for line in (folder / "cntlist.rev").read_text(encoding="latin-1").splitlines():
        key, number, count = line.split()
        lemma, _, rest = key.partition("%")
        counts[lemma, "nvara"[int(rest[0]) - 1], int(number)] += int(count)
    found: dict[str, list[tuple[str, int, float]]] = defaultdict(list)
    for part, name in parts.items():
        for line in (folder / f"index.{name}").read_text(encoding="latin-1").splitlines():
            if line.startswith("  ") or not line.split(" ", 1)[0].isalpha():
                continue
            lemma = line.split(" ", 1)[0]
            for number, offset in enumerate(re.findall(r"\b\d{8}\b", line), 1):
                found[lemma].append((part, files[part, offset], counts[lemma, part, number] + 0.5 / number))
    return found


def catalogues(folder: Path) -> dict[str, set[str]]:
    """The texts of web applications by language, from the gettext catalogues in wheels."""
    found: dict[str, set[str]] = defaultdict(set)
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if not (match := re.search(r"/([a-z]{2})(?:[_-]\w+)?/LC_MESSAGES/[\w-]+\.mo$", name)):
                    continue
                table = vars(gettext.GNUTranslations(io.BytesIO(archive.read(name))))["_catalog"]
                for key, text in table.items():
                    found["en"].add(str(key if isinstance(key, str) else key[0]).split("\x04")[-1])
                    found[match[1]].add(str(text))
    return found


def page_counts(texts: set[str]) -> Counter[str]:
    """In how many short texts of an application each word is."""
    counts: Counter[str] = Counter()
    for text in {re.sub(r"<[^>]+>|%\(\w+\)\w|%\w|\{[^}]*\}|&\w+;", " ", text).strip() for text in texts}:
        tokens = tokens_of(text)
        if len(tokens) <= 12:
            counts.update({*tokens})
    return counts


def digit(share: float) -> int:
    return round(9 * max(0.0, min(1.0, share)))


def word_lines(wordnet: Path, captions: Sequence[Path], wheels: Path) -> Iterator[str]:
    known = senses(wordnet)
    seen: Counter[str] = Counter()
    for path in captions:
        for line in path.read_text(encoding="utf-8").splitlines():
            seen.update({*re.findall(r"[a-z]+", line.lower())})
    texts = catalogues(wheels)
    pages = page_counts(texts.pop("en"))
    for word in sorted({*known, *(word for word, count in seen.items() if count > 2)}):
        weight = sum(each for _, _, each in known[word])
        judged = [(file, each) for part, file, each in known[word] if part in "nv"]
        total = sum(each for _, each in judged)
        visible = sum(VISIBLE[file] * each for file, each in judged) / total if total else OTHER
        least = LEAST_UNSEEN if visible < UNSEEN else LEAST_SEEN if visible > SEEN else LEAST_KNOWN
        is_rare = weight + seen[word] < least
        if word in all_function_words() or (is_rare and not pages[word]):
            continue
        verb = sum(each for part, _, each in known[word] if part == "v")
        yield (
            f"{word} {digit(visible + 0.3 * log10(1 + seen[word]))}{digit(log1p(pages[word]) / 6)}"
            f"{'v' if verb > weight / 2 else ''}"
        )
    foreign: Counter[str] = Counter()
    for language in LANGUAGES & texts.keys():
        foreign |= page_counts(texts[language])
    for word, count in sorted(foreign.items()):
        if count < LEAST_FOREIGN or not word.isalpha() or (len(word) < 3 and word.isascii()):
            continue
        if word not in known and word not in pages and word not in seen and word not in all_function_words():
            yield f"{word} -{digit(log1p(count) / 6)}"


class Row(NamedTuple):
    """A labelled caption, and whether another rule refuses it."""

    text: str
    usable: bool
    refused: bool


def labelled(path: Path) -> list[Row]:
    rules = CaptionRules(disabled=["abstract"])
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Row(row["text"], row["usable"], rules.judge(Words.of(row["text"], "alt")) is not None) for row in rows]


def fit(rows: Sequence[Row]) -> tuple[float, dict[str, float]]:
    """Bias and weights of a logistic regression with a quadratic penalty on weights of properties of unit spread; both
    kinds of captions weigh the same, and those that other rules refuse weigh little."""
    found = [properties(row.text) for row in rows]
    names = sorted({name for each in found for name in each})
    inputs = np.array([[each.get(name, 0.0) for name in names] for each in found])
    usable = np.array([row.usable for row in rows], float)
    spread = np.maximum(inputs.std(0), 1e-6)
    scaled = np.column_stack([inputs / spread, np.ones(len(rows))])
    weigh = np.where([row.refused for row in rows], REFUSED, 1.0)
    for kind in (0, 1):
        weigh[usable == kind] *= len(rows) / 2 / weigh[usable == kind].sum()
    penalty = np.full(len(names) + 1, PENALTY)
    penalty[-1] = 1e-6
    weights = np.zeros(len(names) + 1)
    for _ in range(30):  # Newton's method
        chance = 1 / (1 + np.exp(-scaled @ weights))
        slope = scaled.T @ (weigh * (chance - usable)) + penalty * weights
        curve = (scaled * (weigh * chance * (1 - chance))[:, None]).T @ scaled + np.diag(penalty)
        weights -= np.linalg.solve(curve, slope)
    return float(weights[-1]), dict(zip(names, (weights[:-1] / spread).tolist(), strict=True))


def chance(text: str, bias: float, weights: dict[str, float]) -> float:
    total = bias + sum(weights.get(name, 0.0) * value for name, value in properties(text).items())
    return float(1 / (1 + np.exp(-total)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["words", "weights"])
    parser.add_argument("labelled", nargs="*", type=Path)
    parser.add_argument("--wordnet", type=Path)
    parser.add_argument("--captions", type=Path, action="append")
    parser.add_argument("--wheels", type=Path)
    given = parser.parse_intermixed_args()
    if given.what == "words":
        lines = word_lines(given.wordnet, given.captions, given.wheels)
        (FOLDER / "words.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return
    lists = {path.stem: labelled(path) for path in given.labelled}
    lines = [line for path in given.captions or () for line in path.read_text(encoding="utf-8").splitlines()]
    photographs = [Row(line, True, True) for line in lines[::EVERY]]
    for held in lists if len(lists) > 1 else ():
        bias, weights = fit([*photographs, *(row for name, rows in lists.items() if name != held for row in rows)])
        kept = [
            row.usable for row in lists[held] if not row.refused and chance(row.text, bias, weights) >= meaning.LEAST
        ]
        usable = sum(row.usable for row in lists[held])
        print(f"{held} from the others: precision {sum(kept) / len(kept):.3f}, recall {sum(kept) / usable:.3f}")
    bias, weights = fit([*photographs, *(row for rows in lists.values() for row in rows)])
    lines = [f'"{name}" = {weight:.3f}' for name, weight in sorted(weights.items()) if abs(weight) >= 0.0005]
    text = f"# Made by recipes/captions/words.py.\nbias = {bias:.3f}\n\n[weights]\n" + "\n".join(lines) + "\n"
    (FOLDER / "weights.toml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
