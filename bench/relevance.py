"""Recall of the index compared with an exact evaluation, and detection of queries without a match.

    python bench/relevance.py [--data pairs/dev] [--index-model converted/] [--quick] [--json]
    python bench/relevance.py --fit pairs/train --data pairs/dev --model MODEL [--write]

Recall: texts find their pictures, once by an exhaustive search over float32 vectors of exactly decoded pictures, and
once as in the index: fast decoding, the engine's precision (or that of --index-model, a conversion of the same model),
float16 vectors, and approximate search, even where the index would search exactly.

Relevance: each of the most frequent nouns of the captions is a query ("dog"), once with all pictures and once without
those whose captions name it, in singular or plural. Each statistic is scored by its AUC, the probability that it is
higher with these pictures. The statistic and the threshold, which keeps 90 % of the true first hits, are chosen on
every second noun and reported for the others too. Captions do not mention everything, so some removed nouns are still
in other pictures, and no statistic can reach 1.

With --fit recall is left out, and the cosine to expect of a text (see `diptych.scoring.expected_cosine`) is fitted to
the first 2,000 of those pictures and the words of their captions. With --write it is stored in the model's folder, with
the threshold that this chooses, as relevance.json. Without --data the pictures and nouns are those of drawn scenes.
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from table import Row, arguments, report

import diptych
from diptych.data.loading.stream import indexed
from diptych.data.sources.opening import open_source
from diptych.index.search.query import Query
from diptych.index.search.relevance import BACKGROUND_SENTENCES, TEXT_THRESHOLD, background_statistics
from diptych.scenes.scene import KINDS, Scenes
from diptych.scoring.expected_cosine import RELEVANCE_FILE, ExpectedCosine, fit
from diptych.text.known_words import count_words
from diptych.vectors.nearest import VectorIndex

QUESTION = "Recall of the index and of an exact evaluation, and detection of queries without a match"
COUNT, KEPT = 50, 0.9  # nouns; the share of true first hits above the threshold
LEAST_NAMED = 4  # pictures whose captions have a word, for it to be fitted to
# The things among the 330 most frequent words of Flickr8k's captions, in singular; the COUNT most frequent are used.
NOUNS = """
dog man girl woman boy person water shirt ball child grass snow field air mouth beach bike street player hat
jacket pool crowd rock bicycle dirt park ocean mountain building toy skateboard camera sand path hill stick
sidewalk ramp lake face frisbee baby wall swing glasses city road tree uniform collar car wave bench boat fence
race wood hair playground dress sign suit coat couch chair table cap rope bed helmet slide ice jeans snowboarder
track motorcycle leaf river fountain team floor guitar bird lady bus outfit flower fire stream family bag bridge
window toddler cat cliff house costume store bottle tire basketball football soccer tennis baseball hockey
skateboarder surfer biker trick
""".split()  # noqa: SIM905
ODD_PLURALS = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "leaf": "leaves",
    "fish": "fish",
}


class Pairs(NamedTuple):
    """Pictures as bytes of files or opened, the captions of each, and the nouns to search."""

    pictures: list[Any]
    captions: list[tuple[str, ...]]
    nouns: tuple[str, ...]


def pairs(data: str | None, limit: int) -> Pairs:
    """From a source of pairs, or drawn scenes."""
    if data is None:
        scenes = list(Scenes(min(limit, 1000), seed=5, split="test"))
        return Pairs([scene.image for scene in scenes], [scene.captions for scene in scenes], KINDS)
    source = indexed(open_source(data))
    samples = [source[at] for at in range(min(limit, len(source)))]
    return Pairs([sample.image for sample in samples], [sample.captions for sample in samples], tuple(NOUNS))


def plural(noun: str) -> str:
    """The plural by spelling rules."""
    if noun in ODD_PLURALS:
        return ODD_PLURALS[noun]
    if re.search("(s|x|ch|sh)$", noun):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if re.search("[^aeiou]y$", noun) else f"{noun}s"


def naming(captions: Sequence[Sequence[str]], nouns: Sequence[str]) -> dict[str, np.ndarray]:
    """For each of the COUNT most frequent nouns, the most frequent first, whether each picture's captions name it,
    (pictures,) bool. At least three pictures name a noun and three do not."""
    words = [set(re.findall("[a-z]+", " ".join(texts).lower())) for texts in captions]
    named = {noun: np.array([not found.isdisjoint((noun, plural(noun))) for found in words]) for noun in nouns}
    usable = [noun for noun in nouns if 3 <= named[noun].sum() <= len(words) - 3]
    return {noun: named[noun] for noun in sorted(usable, key=lambda noun: -named[noun].sum())[:COUNT]}


# --- recall


def ranks(best: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """The rank of each text's own picture among its ten best, from 0, (texts,); 10 if it is not among them."""
    hits = best == owners[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), 10)


def recall_rows(who: str, candidate_ranks: np.ndarray) -> list[Row]:
    return [Row(who, 100 * float((candidate_ranks < k).mean()), f"R@{k}") for k in (1, 5, 10)]


def recall(exact: np.ndarray, stored: np.ndarray, exact_texts: np.ndarray, texts: np.ndarray, owners: Any) -> list[Row]:
    """Recall of both, and the largest difference."""
    best = np.argsort(-(exact_texts @ exact.T), axis=1, kind="stable")[:, :10]
    reference = recall_rows(f"exact float32, {len(exact)} pictures x {len(texts)} texts", ranks(best, owners))
    with tempfile.TemporaryDirectory() as folder:
        nearest = built(folder, stored, np.arange(len(stored)), kind="approximate")
        found = np.stack([nearest.search(text, 10).ids for text in texts])
    index = recall_rows("index, approximate, fast decoding", ranks(found, owners))
    difference = max(abs(one.value - other.value) for one, other in zip(reference, index, strict=True))
    return [*reference, *index, Row("index and exact", difference, "points apart at most")]


def built(folder: str, vectors: np.ndarray, ids: np.ndarray, **options: Any) -> VectorIndex:
    """The search structure of some vectors."""
    return VectorIndex.build(folder, ids.astype(np.int64), vectors[ids].astype(np.float16), stamp="bench", **options)


# --- relevance


def statistics(sentences: np.ndarray) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Candidate statistics, each of a query (dim,) and vectors (pictures, dim)."""

    def height(vectors: np.ndarray, query: np.ndarray, best: int) -> float:
        cosines = vectors @ query
        return float((np.sort(cosines)[-best:].mean() - cosines.mean()) / cosines.std())

    def extreme(query: np.ndarray, vectors: np.ndarray) -> float:
        """Excess over the expected maximum of n normal numbers (Cramér 1946, section 28.6)."""
        location = np.sqrt(2 * np.log(len(vectors)))
        expected = location - (np.log(np.log(len(vectors))) + np.log(4 * np.pi)) / (2 * location)
        return float((height(vectors, query, 1) - expected) * location)

    def by_picture(query: np.ndarray, vectors: np.ndarray) -> float:
        """Each picture's cosine relative to those of background sentences with the same picture."""
        others = vectors @ sentences.T
        return float(np.sort((vectors @ query - others.mean(axis=1)) / others.std(axis=1))[-10:].mean())

    def gap(query: np.ndarray, vectors: np.ndarray) -> float:
        first, second = np.sort(vectors @ query)[:-3:-1]
        return float(first - second)

    return {
        "greatest cosine": lambda query, vectors: float((vectors @ query).max()),
        "mean of ten best cosines": lambda query, vectors: float(np.sort(vectors @ query)[-10:].mean()),
        "z of the first hit": lambda query, vectors: height(vectors, query, 1),
        "z of the ten best": lambda query, vectors: height(vectors, query, 10),
        "gap of first and second": gap,
        "z of the first hit, by extreme values": extreme,
        "ten best beside other sentences, by picture": by_picture,
    }


class NounStatistic(NamedTuple):
    """A statistic of one noun with its pictures (`present`) and without (`absent`), and whether the first hit was
    true."""

    present: float
    absent: float
    is_true: bool


def noun_statistics(
    stored: np.ndarray, named: dict[str, np.ndarray], model: diptych.Embedder, expected: ExpectedCosine | None
) -> dict[str, list[NounStatistic]]:
    """Every statistic of every noun; the last is that of `search --relevant`."""
    sentences, nouns = model.embed_texts(BACKGROUND_SENTENCES), model.embed_texts(list(named))
    is_true = [bool(having[(stored @ noun).argmax()]) for noun, having in zip(nouns, named.values(), strict=True)]
    sets = [(stored, stored[~having]) for having in named.values()]
    found = {
        name: [
            NounStatistic(of(noun, present), of(noun, absent), true)
            for noun, (present, absent), true in zip(nouns, sets, is_true, strict=True)
        ]
        for name, of in statistics(sentences).items()
    }
    found["z of the ten best over background sentences, --relevant"] = [
        NounStatistic(
            relevance_z(stored, np.arange(len(stored)), noun, sentences, expected),
            relevance_z(stored, np.flatnonzero(~having), noun, sentences, expected),
            true,
        )
        for noun, having, true in zip(nouns, named.values(), is_true, strict=True)
    ]
    return found


def fitted(model: diptych.Embedder, have: Pairs) -> ExpectedCosine:
    """The cosine to expect of a text, fitted to these pictures and the words that name LEAST_NAMED of them or more."""
    counts = count_words(" ".join(texts) for texts in have.captions)
    words = sorted(word for word, count in counts.items() if count >= LEAST_NAMED)
    return fit(model.embed_texts(words), model.embed_images(have.pictures, decode="fast"))


def relevance_z(
    vectors: np.ndarray, ids: np.ndarray, noun: np.ndarray, sentences: np.ndarray, expected: ExpectedCosine | None
) -> float:
    """The relevance z-score of `diptych search --relevant`."""
    with tempfile.TemporaryDirectory() as folder:
        nearest = built(folder, vectors, ids)
        background = background_statistics(
            Query.text("a noun"), nearest, sentences, vector=noun, expected_cosine=expected
        )
        return background.relevance_z(nearest.search(noun, background.top_k).cosines)


def auc(rows: Sequence[NounStatistic]) -> float:
    """The probability that a statistic with the pictures exceeds one without; ties count half."""
    present, absent = (np.array([getattr(row, name) for row in rows]) for name in ("present", "absent"))
    return float((present[:, None] > absent).mean() + 0.5 * (present[:, None] == absent).mean())


def chosen_threshold(rows: Sequence[NounStatistic]) -> float | None:
    """The threshold that keeps at least the share KEPT of the true first hits of every second noun."""
    true_first = [row.present for row in rows[::2] if row.is_true]
    return float(np.quantile(true_first, 1 - KEPT, method="lower")) if true_first else None


def relevance(found: dict[str, list[NounStatistic]], built_in: float) -> Iterator[Row]:
    """AUC of each statistic, and the shares of hits above and below the threshold of the last."""
    for name, rows in found.items():
        for half, some in (("all nouns", rows), ("1st half", rows[::2]), ("2nd half", rows[1::2])):
            yield Row(name, auc(some), f"AUC, {half}")
    name, rows = list(found.items())[-1]
    chosen = chosen_threshold(rows)
    if chosen is None or not any(row.is_true for row in rows[1::2]):
        return
    for threshold, half, some in (
        (chosen, "1st half", rows[::2]),
        (chosen, "2nd half", rows[1::2]),
        (built_in, "all nouns", rows),
    ):
        who = f"threshold {threshold:.2f}{' (built in)' if threshold == built_in else ', from the 1st half'}"
        kept = np.mean([row.present >= threshold for row in some if row.is_true])
        yield Row(who, 100 * float(kept), f"% true 1st kept, {half}")
        yield Row(who, 100 * float(np.mean([row.absent < threshold for row in some])), f"% absent detected, {half}")


def main() -> None:
    """Embed twice, compare, search."""
    parser = arguments(QUESTION)
    parser.add_argument("--data", help="pairs, as `diptych train --data` takes them; by default drawn scenes")
    parser.add_argument("--model", help="the model; by default the bundled one")
    parser.add_argument("--index-model", help="a conversion of the same model, for indexing and queries")
    parser.add_argument("--fit", help="pairs to fit the cosine to expect of a text to")
    parser.add_argument("--write", action="store_true", help="store what was fitted in the model's folder")
    options = parser.parse_args()
    have = pairs(options.data, 120 if options.quick else 100_000)
    model = diptych.load(options.index_model or options.model, engine="openvino")
    fast = model.embed_images(have.pictures, decode="fast")
    expected = fitted(model, pairs(options.fit, 2000)) if options.fit else model.expected_cosine
    named = naming(have.captions, have.nouns)
    found = noun_statistics(fast, named, model, expected)
    rows = [] if options.fit else recall_of(have, model, fast, options)
    rows.append(Row("nouns searched", len(named), "nouns"))
    rows += relevance(found, expected.threshold if expected and not options.fit else TEXT_THRESHOLD)
    if options.fit and options.write and (threshold := chosen_threshold(list(found.values())[-1])) is not None:
        path = Path(model.source) / RELEVANCE_FILE
        path.write_text(expected._replace(threshold=round(threshold, 2)).to_json(), encoding="utf-8")
    report(QUESTION, rows, as_json=options.as_json)


def recall_of(have: Pairs, model: diptych.Embedder, fast: np.ndarray, options: argparse.Namespace) -> list[Row]:
    """The rows on recall: `fast` are the pictures as the index has them."""
    captions = [texts[:1] if options.quick else texts for texts in have.captions]
    texts = [text for some in captions for text in some]
    owners = np.repeat(np.arange(len(captions)), [len(some) for some in captions])
    reference = diptych.load(options.model, engine="openvino", precision="float32")
    exact = reference.embed_images(have.pictures, decode="exact")
    exact_texts, fast_texts = (one.embed_texts(texts, truncate=True) for one in (reference, model))
    return recall(exact, fast, exact_texts, fast_texts, owners)


if __name__ == "__main__":
    main()
