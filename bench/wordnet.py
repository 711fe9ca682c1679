"""WordNet's nouns, read from the files of Debian's package wordnet-base (`man 5 wndb` describes them).

apt-get install wordnet-base                        # /usr/share/wordnet
apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet    # without root: wordnet/usr/share/wordnet
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = "/usr/share/wordnet"
PARTS = {1: "noun", 2: "verb", 3: "adjective", 4: "adverb", 5: "adjective"}  # the numbers in sense keys
# The files of lexicographers with things that a picture can show (man 5 lexnames).
THINGS = {
    5: "animal", 6: "artifact", 8: "body", 13: "food", 14: "group", 15: "location", 17: "object", 18: "person",
    19: "phenomenon", 20: "plant", 27: "substance",
}  # fmt: skip
ENDINGS = (
    ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
    ("ies", "y"),
)  # fmt: skip


class Synset(NamedTuple):
    """Words with one meaning, in lower case without proper names, and the keys of its hypernyms."""

    lemmas: tuple[str, ...]
    file: int
    hypernyms: tuple[str, ...]


class WordNet(NamedTuple):
    """`senses` are the keys of a noun's synsets, the most frequent first; `plurals` are irregular, as are `verb_forms`,
    which are not tagged as nouns."""

    synsets: dict[str, Synset]
    senses: dict[str, tuple[str, ...]]
    plurals: dict[str, tuple[str, ...]]
    verb_forms: set[str]
    tagged: Counter[tuple[str, str]]

    def singulars(self, word: str) -> set[str]:
        """The nouns whose singular or plural a word is."""
        found = {word, *self.plurals.get(word, ())}
        found |= {word.removesuffix(plural) + singular for plural, singular in ENDINGS if word.endswith(plural)}
        return {one for one in found if one in self.senses}

    def is_mainly_noun(self, word: str) -> bool:
        """Whether the word is tagged as a noun at least as often as any other part of speech."""
        return word in self.senses and all(
            self.tagged[word, "noun"] >= self.tagged[word, part] for part in ("verb", "adjective", "adverb")
        )

    def above(self, key: str) -> tuple[str, ...]:
        """The keys of all hypernyms of a synset, direct and indirect, the nearest first."""
        found, waiting = dict[str, None](), [key]
        for below in waiting:
            new = [up for up in self.synsets[below].hypernyms if up not in found]
            found |= dict.fromkeys(new)
            waiting += new
        return tuple(found)


def read(folder: str | Path) -> WordNet:
    """Raises FileNotFoundError, which says how to get them."""
    folder = Path(folder)
    if not (folder / "data.noun").exists():
        raise FileNotFoundError(f"{folder} has no data.noun; wanted the files of Debian's package wordnet-base.")
    senses = {fields[0]: tuple(fields[-int(fields[2]) :]) for fields in _lines(folder / "index.noun")}
    plurals = {plural: tuple(singulars) for plural, *singulars in _lines(folder / "noun.exc")}
    tagged: Counter[tuple[str, str]] = Counter()
    for key, _, count in _lines(folder / "cntlist.rev"):
        word, _, rest = key.partition("%")
        tagged[word, PARTS[int(rest[0])]] += int(count)
    verb_forms = {fields[0] for fields in _lines(folder / "verb.exc") if not tagged[fields[0], "noun"]}
    synsets = dict(_synset(fields) for fields in _lines(folder / "data.noun"))
    return WordNet(synsets, senses, plurals, verb_forms, tagged)


def _lines(path: Path) -> Iterator[list[str]]:
    """The fields of each line, without the license at the beginning, which is indented."""
    with path.open(encoding="utf-8") as lines:
        yield from (line.split(" | ")[0].split() for line in lines if not line.startswith(" "))


def _synset(fields: list[str]) -> tuple[str, Synset]:
    """The key and content of a line of data.noun: key, file, type, number of words (hexadecimal), words with ids,
    number of pointers, pointers of four fields."""
    end = 4 + 2 * int(fields[3], 16)
    words, pointers = fields[4:end:2], fields[end + 1 :]
    up = tuple(pointers[at + 1] for at in range(0, len(pointers), 4) if pointers[at] in ("@", "@i"))
    return fields[0], Synset(tuple(word for word in words if word.islower()), int(fields[1]), up)
