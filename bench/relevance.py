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

The last statistic is also computed in random subsets of the pictures, for the nouns that some of them show.

With --never, a file of names, one a line, those are searched of which no caption has a word; the AUC is that of the
nouns that are shown against these.

With --fit recall is left out, and 2,000 of those pictures, drawn at random, are the reference pictures (see
`diptych.scoring.reference_pictures`). With --write their vectors are stored in the model's folder, with the threshold
that this chooses, as reference_pictures.safetensors. Without --data the pictures and nouns are those of drawn scenes.
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
from diptych.index.search.relevance import (
    BACKGROUND_SENTENCES,
    TEXT_THRESHOLD,
    background_statistics,
    reference_statistics,
)
from diptych.index.stores.local import LocalSelection
from diptych.scenes.scene import KINDS, Scenes
from diptych.scoring.reference_pictures import REFERENCE_FILE, ReferencePictures
from diptych.vectors.nearest import VectorIndex

QUESTION = "Recall of the index and of an exact evaluation, and detection of queries without a match"
COUNT, KEPT = 50, 0.9  # nouns; the share of true first hits above the threshold
RELEVANT, REFERENCES = "--relevant", 2000  # the statistic of `diptych search`; pictures
SUBSETS = {200: 4, 40: 12}  # of so many pictures, how many are drawn
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


def naming(captions: Sequence[Sequence[str]], nouns: Sequence[str], count: int = COUNT) -> dict[str, np.ndarray]:
    """For each of the `count` most frequent nouns, the most frequent first, whether each picture's captions name it,
    (pictures,) bool. At least three pictures name a noun and three do not."""
    words = [set(re.findall("[a-z]+", " ".join(texts).lower())) for texts in captions]
    named = {noun: np.array([not found.isdisjoint((noun, plural(noun))) for found in words]) for noun in nouns}
    usable = [noun for noun in nouns if 3 <= named[noun].sum() <= len(words) - 3]
    return {noun: named[noun] for noun in sorted(usable, key=lambda noun: -named[noun].sum())[:count]}


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
    """A statistic of one noun with its pictures (`present`) and without (`absent`), whether the first hit was true, and
    whether the noun is in the half on which a threshold is chosen."""

    present: float
    absent: float
    is_true: bool
    chooses: bool


def noun_statistics(
    stored: np.ndarray,
    named: dict[str, np.ndarray],
    model: diptych.Embedder,
    reference: ReferencePictures | None,
    *,
    quick: bool = False,
) -> dict[str, list[NounStatistic]]:
    """Every statistic of every noun; the last are those of `search --relevant`, in subsets and in all pictures."""
    sentences, nouns = model.embed_texts(BACKGROUND_SENTENCES), model.embed_texts(list(named))
    is_true = [bool(having[(stored @ noun).argmax()]) for noun, having in zip(nouns, named.values(), strict=True)]
    sets = [(stored, stored[~having]) for having in named.values()]
    found = {
        name: [
            NounStatistic(of(noun, present), of(noun, absent), true, number % 2 == 0)
            for number, (noun, (present, absent), true) in enumerate(zip(nouns, sets, is_true, strict=True))
        ]
        for name, of in statistics(sentences).items()
    }
    rng, having = np.random.default_rng(0), np.stack(list(named.values()))
    for size, draws in SUBSETS.items():
        if not quick and size < len(stored) // 2:
            subsets = [rng.choice(len(stored), size, replace=False) for _ in range(draws)]
            found[f"{RELEVANT}, {size} pictures"] = [
                one for ids in subsets for one in relevance_of(stored, ids, nouns, having, sentences, reference)
            ]
    found[RELEVANT] = relevance_of(stored, np.arange(len(stored)), nouns, having, sentences, reference)
    return found


def relevance_of(
    stored: np.ndarray,
    ids: np.ndarray,
    nouns: np.ndarray,
    having: np.ndarray,
    sentences: np.ndarray,
    reference: ReferencePictures | None,
) -> list[NounStatistic]:
    """The relevance z-scores of the nouns that name some, but not most, of the pictures `ids`."""
    found = []
    for number, (noun, shown) in enumerate(zip(nouns, having[:, ids], strict=True)):
        if 0 < shown.sum() <= len(ids) // 2:
            present, absent = (
                relevance_scores(stored, some, noun[None], sentences, reference)[0] for some in (ids, ids[~shown])
            )
            is_true = bool(shown[(stored[ids] @ noun).argmax()])
            found.append(NounStatistic(present, absent, is_true, number % 2 == 0))
    return found


def never_named(path: str, captions: Sequence[Sequence[str]]) -> list[str]:
    """The names in a file, one a line, of which no caption has a word, in singular or plural."""
    words = set(re.findall("[a-z]+", " ".join(text for texts in captions for text in texts).lower()))
    names = list(filter(None, map(str.strip, Path(path).read_text(encoding="utf-8").splitlines())))
    return [
        name
        for name in names
        if not any(words & {word, plural(word), word.removesuffix("s")} for word in re.findall("[a-z]+", name.lower()))
    ]


def never_rows(
    stored: np.ndarray, named: dict[str, np.ndarray], never: list[str], model: diptych.Embedder,
    reference: ReferencePictures | None,
) -> Iterator[Row]:  # fmt: skip
    """AUC of the nouns that some pictures show against names that none shows, in all pictures and in subsets."""
    sentences, rng = model.embed_texts(BACKGROUND_SENTENCES), np.random.default_rng(1)
    texts, having = model.embed_texts([*named, *never], truncate=True), np.stack(list(named.values()))
    yield Row("names that no caption has", len(never), "names")
    for size, draws in {len(stored): 1, **SUBSETS}.items():
        shown, others = list[float](), list[float]()
        for _ in range(draws if size <= len(stored) else 0):
            ids = rng.choice(len(stored), size, replace=False)
            found = relevance_scores(stored, ids, texts, sentences, reference)
            shown += [z for z, of in zip(found, having[:, ids], strict=False) if of.any()]
            others += found[len(named) :]
        if shown:
            yield Row(RELEVANT, auc(shown, others), f"AUC, {size} pictures, shown against never named")


def reference_pictures(model: diptych.Embedder, data: str) -> ReferencePictures:
    """REFERENCES of the pictures of these pairs, drawn at random, as reference pictures without a threshold."""
    source = indexed(open_source(data))
    drawn = np.random.default_rng(0).permutation(len(source))[:REFERENCES]
    pictures = [source[int(at)].image for at in drawn]
    return ReferencePictures.of(model.embed_images(pictures, decode="fast"), -np.inf)


def relevance_scores(
    vectors: np.ndarray, ids: np.ndarray, texts: np.ndarray, sentences: np.ndarray, reference: ReferencePictures | None
) -> list[float]:
    """The relevance z-score of `diptych search --relevant` for each text."""
    with tempfile.TemporaryDirectory() as folder:
        nearest, found = built(folder, vectors, ids), []
        for text in texts:
            background = (
                reference_statistics(reference, text, len(ids), sentences)
                if reference
                else background_statistics(
                    Query.text("a noun"), nearest.sample(len(sentences)), LocalSelection(nearest), sentences
                )
            )
            found.append(background.relevance_z(nearest.search(text, background.top_k).cosines))
        return found


def auc(present: Sequence[float], absent: Sequence[float]) -> float:
    """The probability that one of the first exceeds one of the others; ties count half."""
    one, other = np.array(present)[:, None], np.array(absent)
    return float((one > other).mean() + 0.5 * (one == other).mean())


def chosen_threshold(found: dict[str, list[NounStatistic]]) -> float | None:
    """The mean, over all pictures and the sizes of subsets, of the threshold of `search --relevant` that keeps at least
    the share KEPT of the true first hits of every second noun: one threshold serves small and large indexes."""
    thresholds = []
    for name, rows in found.items():
        true_first = [row.present for row in rows if row.chooses and row.is_true]
        if name.startswith(RELEVANT) and true_first:
            thresholds.append(np.quantile(true_first, 1 - KEPT, method="lower"))
    return float(np.mean(thresholds)) if thresholds else None


def relevance(found: dict[str, list[NounStatistic]], built_in: float | None) -> Iterator[Row]:
    """AUC of each statistic, and the shares of hits above and below the threshold of `search --relevant`, chosen anew
    and `built_in`, if there is one."""
    for name, rows in found.items():
        for half, some in halves(rows).items():
            yield Row(name, auc([row.present for row in some], [row.absent for row in some]), f"AUC, {half}")
    chosen = chosen_threshold(found)
    if chosen is None:
        return
    for name, rows in found.items():
        if name.startswith(RELEVANT):
            parts, where = halves(rows), name.removeprefix(RELEVANT)
            for half in ("1st half", "2nd half"):
                yield from shares(f"threshold {chosen:.2f}, from the 1st half", chosen, parts[half], half + where)
            if built_in is not None:
                yield from shares(f"threshold {built_in:.2f} (built in)", built_in, rows, f"all nouns{where}")


def shares(who: str, threshold: float, rows: Sequence[NounStatistic], where: str) -> Iterator[Row]:
    """The shares of true first hits that a threshold keeps, and of absent nouns that it detects."""
    if true := [row.present >= threshold for row in rows if row.is_true]:
        yield Row(who, 100 * float(np.mean(true)), f"% true 1st kept, {where}")
    if rows:
        yield Row(who, 100 * float(np.mean([row.absent < threshold for row in rows])), f"% absent detected, {where}")


def halves(rows: Sequence[NounStatistic]) -> dict[str, list[NounStatistic]]:
    """The rows of all nouns, of those on which the threshold is chosen, and of the others."""
    parts = {"1st half": [row for row in rows if row.chooses], "2nd half": [row for row in rows if not row.chooses]}
    return {"all nouns": list(rows)} | parts


def main() -> None:
    """Embed twice, compare, search."""
    parser = arguments(QUESTION)
    parser.add_argument("--data", help="pairs, as `diptych train --data` takes them; by default drawn scenes")
    parser.add_argument("--model", help="the model; by default the bundled one")
    parser.add_argument("--index-model", help="a conversion of the same model, for indexing and queries")
    parser.add_argument("--fit", help="pairs whose pictures become the reference pictures")
    parser.add_argument("--never", help="a file of names, one a line; those that no caption has are searched")
    parser.add_argument("--write", action="store_true", help="store the reference pictures in the model's folder")
    options = parser.parse_args()
    have = pairs(options.data, 120 if options.quick else 100_000)
    model = diptych.load(options.index_model or options.model, engine="openvino")
    fast = model.embed_images(have.pictures, decode="fast")
    reference = reference_pictures(model, options.fit) if options.fit else model.reference_pictures
    named = naming(have.captions, have.nouns)
    found = noun_statistics(fast, named, model, reference, quick=options.quick)
    rows = [] if options.fit else recall_of(have, model, fast, options)
    rows.append(Row("nouns searched", len(named), "nouns"))
    built_in = model.reference_pictures.threshold if model.reference_pictures else TEXT_THRESHOLD
    rows += relevance(found, None if options.fit else built_in)
    if options.never and (never := never_named(options.never, have.captions)):
        rows += never_rows(fast, named, never, model, reference)
    threshold = chosen_threshold(found)
    if options.fit and options.write and reference and threshold is not None:
        path = Path(model.source) / REFERENCE_FILE
        path.write_bytes(reference._replace(threshold=round(threshold, 2)).to_bytes())
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
