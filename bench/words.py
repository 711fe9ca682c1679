"""Does the text tower know words that the captions of its training lack?

    python bench/words.py --data pairs/train [--model runs/1/model] [--wordnet FOLDER] [--seed 0] [--quick] [--json]

The captions are those of --data; WordNet is Debian's package wordnet-base (see bench/wordnet.py). Candidates are the
1,000 most frequent nouns of the captions. Each question is a word, and the answer is right if the nearest candidate, by
the text tower alone, is the one wanted:

- synonyms: nouns that the captions lack, in singular and plural, and the candidate that is a lemma of the same synset
- hypernyms: nouns whose synset has no lemma in the captions, and a candidate that is a lemma of any of its hypernyms
- slips: candidates with one letter deleted, inserted, replaced, or swapped with the next

Both words have the synset as their most frequent sense, and it is a thing that a picture can show. All three are drawn
by the seed, the first by pairs(), so that a training can hold the synonyms out. Name several models to compare them.
Words are alone ("sofa") and in a sentence ("a photo of a sofa").
"""

import random
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import wordnet
from table import Row, arguments, report
from wordnet import THINGS, WordNet

import diptych
from diptych.data.loading.stream import indexed
from diptych.data.sources.opening import open_source

QUESTION = "Words that the captions lack, and slips: is the nearest of the captions' nouns the right one, in percent"
CANDIDATES, PAIRS = 1000, 200
TEMPLATES = ("{}", "a photo of a {}")


class Question(NamedTuple):
    """A word and the candidates that are right; the first is the one wanted."""

    word: str
    answers: tuple[str, ...]


class Vocabulary(NamedTuple):
    """The words of the captions, with their singulars, and the `candidates`: their nouns, the most frequent first."""

    words: set[str]
    candidates: list[str]


def pairs(captions: Iterable[str], folder: str = wordnet.FOLDER, seed: int = 0, count: int = PAIRS) -> list[Question]:
    """At most `count` nouns that the captions lack, each with a candidate of the same synset: the same ones for the
    same captions and seed. `folder` has WordNet's files."""
    net = wordnet.read(folder)
    return synonyms(net, vocabulary(captions, net), seed, count)


def vocabulary(captions: Iterable[str], net: WordNet) -> Vocabulary:
    """The words of captions. A plural counts as its singular where that is more frequent, so that "shorts" stays."""
    counts = Counter(word for caption in captions for word in re.findall("[a-z]+", caption.lower()))
    singulars = {word: net.singulars(word) for word in counts}
    nouns: Counter[str] = Counter()
    for word, forms in singulars.items():
        noun = max(sorted(forms), key=lambda form: counts[form], default="")
        if is_candidate(noun, net):
            nouns[noun] += counts[word]
    ordered = sorted(nouns, key=lambda noun: (-nouns[noun], noun))
    return Vocabulary(set(counts).union(*singulars.values()), ordered[:CANDIDATES])


def is_candidate(noun: str, net: WordNet) -> bool:
    """Whether a word is mainly a noun; words in -ing only if they are things, such as buildings."""
    if len(noun) < 3 or noun in net.verb_forms or not net.is_mainly_noun(noun):
        return False
    return not noun.endswith("ing") or net.synsets[net.senses[noun][0]].file in THINGS


def unseen_nouns(net: WordNet, known: Vocabulary) -> Iterator[tuple[str, str]]:
    """The nouns of one word that the captions lack, each with the key of its most frequent sense, which is a thing and
    no name."""
    for noun, (key, *_) in sorted(net.senses.items()):
        is_thing = net.synsets[key].file in THINGS and noun in net.synsets[key].lemmas  # names are there in capitals
        if re.fullmatch("[a-z]{3,}", noun) and is_thing and known.words.isdisjoint({noun, *net.singulars(noun)}):
            yield noun, key


def lemmas(net: WordNet, keys: Iterable[str], candidates: Sequence[str]) -> tuple[str, ...]:
    """The candidates whose most frequent sense is one of these synsets, in the order of the synsets."""
    found = (word for key in keys for word in net.synsets[key].lemmas if net.senses[word][0] == key)
    return tuple(word for word in found if word in candidates)


def synonyms(net: WordNet, known: Vocabulary, seed: int, count: int) -> list[Question]:
    """Nouns with a candidate of the same synset; where there are several, the most frequent."""
    rank = {word: at for at, word in enumerate(known.candidates)}
    found = [
        Question(noun, tuple(sorted(answers, key=rank.__getitem__)))
        for noun, key in unseen_nouns(net, known)
        if (answers := lemmas(net, [key], known.candidates))
    ]
    return drawn(found, seed, count)


def hypernyms(net: WordNet, known: Vocabulary, seed: int, count: int) -> list[Question]:
    """Nouns with a candidate in the synset right above their own; all candidates above are right. Only nouns that
    WordNet's texts contain, since most others are names of species."""
    found = [
        Question(noun, lemmas(net, net.above(key), known.candidates))
        for noun, key in unseen_nouns(net, known)
        if net.tagged[noun, "noun"]
        and known.words.isdisjoint(net.synsets[key].lemmas)
        and lemmas(net, net.synsets[key].hypernyms, known.candidates)
    ]
    return drawn(found, seed, count)


def slips(net: WordNet, known: Vocabulary, seed: int, count: int) -> list[Question]:
    """Candidates of five letters or more with a slip that is no word itself; the most frequent `count`."""
    draw = random.Random(seed)
    found = []
    for word in (word for word in known.candidates if len(word) > 4):
        slip = slipped(word, draw)
        if slip not in known.words and not net.singulars(slip):
            found.append(Question(slip, (word,)))
    return found[:count]


def slipped(word: str, draw: random.Random) -> str:
    """The word with one letter deleted, inserted, replaced, or swapped with the next."""
    at, letter = draw.randrange(len(word) - 1), draw.choice(string.ascii_lowercase)
    head, here, following, tail = word[:at], word[at], word[at + 1], word[at + 2 :]
    kinds = (following, here + letter + following, letter + following, following + here)
    return head + draw.choice(kinds) + tail


def drawn(questions: list[Question], seed: int, count: int) -> list[Question]:
    """At most `count` of them, drawn by the seed."""
    return random.Random(seed).sample(questions, min(count, len(questions)))


def right(model: diptych.Embedder, questions: Sequence[Question], candidates: list[str], template: str) -> list[str]:
    """The nearest candidate to each question's word."""
    names = model.embed_texts([template.format(word) for word in candidates])
    asked = model.embed_texts([template.format(question.word) for question in questions])
    return [candidates[int(at)] for at in np.argmax(asked @ names.T, axis=1)]


def rows_of(who: str, model: diptych.Embedder, asked: dict[str, list[Question]], known: Vocabulary) -> Iterator[Row]:
    """The percentage of right answers for each kind of question, and of those that share the synset or are above."""
    for template in TEMPLATES:
        for kind, questions in asked.items():
            if not questions:
                continue
            nearest = right(model, questions, known.candidates, template)
            hits = [found in answers for found, (_, answers) in zip(nearest, questions, strict=True)]
            label = f"{who}, {template.format('...')}, {len(questions)} {kind}"
            yield Row(label, 100 * float(np.mean(hits)), "% right")
            if kind == "synonyms":
                first = [found == answers[0] for found, (_, answers) in zip(nearest, questions, strict=True)]
                yield Row(label, 100 * float(np.mean(first)), "% the most frequent")


def main() -> None:
    """Draw the questions, ask every model."""
    parser = arguments(QUESTION)
    parser.add_argument("--data", required=True, help="pairs, as `diptych train --data` takes them")
    parser.add_argument("--model", action="append", help="a model; may be repeated; by default the bundled one")
    parser.add_argument("--wordnet", default=wordnet.FOLDER, help="the folder of WordNet's files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    source, count = indexed(open_source(options.data)), 20 if options.quick else PAIRS
    captions = [text for at in range(len(source)) for text in source[at].captions]
    net = wordnet.read(options.wordnet)
    known = vocabulary(captions, net)
    kinds = {"synonyms": synonyms, "hypernyms": hypernyms, "slips": slips}
    asked = {kind: draw(net, known, options.seed, count) for kind, draw in kinds.items()}
    rows = [Row("nouns of the captions", len(known.candidates), "candidates")]
    for name in options.model or [None]:
        rows += rows_of(name or "bundled", diptych.load(name), asked, known)
    inputs = {"seed": options.seed, "candidates": known.candidates, **asked}
    report(QUESTION, rows, as_json=options.as_json, inputs=inputs)


if __name__ == "__main__":
    main()
