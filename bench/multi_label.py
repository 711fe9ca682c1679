"""Does a probability of `classify --multi-label` come true?

    python bench/multi_label.py [--data pairs/dev] [--model MODEL] [--quick] [--json]
    python bench/multi_label.py --fit --data pairs/dev --model MODEL [--write]

Labels are the nouns among the most frequent words of the captions, or the kinds of drawn things. A label is true of a
picture whose captions name it, in singular or plural. Captions do not name all that is there, so the true share is
higher than what is counted.

The calibration error (Guo et al. 2017, section 3) is the mean difference, over all pictures and labels, of the said
probability and the share that is true, in ten bins of equal width. It is nothing for one who says the same of every
label, so the Brier score is here too, the mean squared difference of each probability and the truth (0 or 1), beside
that of the frequency of all labels. "against prompts without a label" is what models have whose files say nothing.

With --fit, the logit of a label is fitted to every second picture as scale * cosine + bias, by the picture's vector and
by its patches, and the others are reported on. They should be pictures that the model was not trained on: of those it
is surer. With --write both are stored in the model's reference_pictures.safetensors.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from relevance import Pairs, naming, pairs
from table import Row, arguments, report

import diptych
from diptych.inference.labels import LabelSet
from diptych.media.preprocessing import resized_and_cropped
from diptych.scoring.reference_pictures import REFERENCE_FILE, Logit, MultiLabel

QUESTION = "Does a probability of labels that are judged each by itself come true?"
BINS, BLOCK = 10, 64  # bins; pictures that are encoded together
METHODS = {"picture": False, "patches": True}


def scored(have: Pairs, model: diptych.Embedder) -> tuple[dict[str, LabelSet], dict[str, np.ndarray], np.ndarray]:
    """The labels and the cosines of each method, (pictures, labels + 1), and what is true, (pictures, labels)."""
    named = naming(have.captions, have.nouns, len(have.nouns))
    vectors = model.embed_labels(list(named))
    sets = {
        method: LabelSet.of(model, tuple(named), vectors, multi_label=True, patches=patches)
        for method, patches in METHODS.items()
    }
    found: dict[str, list[np.ndarray]] = {method: [] for method in METHODS}
    for start in range(0, len(have.pictures), BLOCK):
        some = have.pictures[start : start + BLOCK]
        pixels = np.stack([resized_and_cropped(each, model.preprocessing) for each in some])
        for method, labels in sets.items():
            found[method].append(labels.encode(pixels))
    return sets, {method: np.concatenate(some) for method, some in found.items()}, np.stack(list(named.values())).T


def calibration_error(said: np.ndarray, true: np.ndarray) -> float:
    """The mean difference of what is said and what is true, in bins of equal width."""
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    parts = [bins == each for each in range(BINS) if (bins == each).any()]
    return float(sum(abs(said[part].mean() - true[part].mean()) * part.mean() for part in parts))


def rows_of(who: str, said: np.ndarray, true: np.ndarray) -> Iterator[Row]:
    """The measures of probabilities; of those of a half and more, how many there are and how many are true."""
    said, true = said.ravel(), true.ravel()
    likely = said >= 0.5
    yield Row(who, calibration_error(said, true), "calibration error")
    yield Row(who, float(((said - true) ** 2).mean()), "Brier score")
    yield Row(who, 100 * float(likely.mean()), "% said to be likely")
    if likely.any():
        yield Row(who, 100 * float(true[likely].mean()), "% of these true")


def fitted(cosines: np.ndarray, true: np.ndarray) -> Logit:
    """The scale and bias of least cross entropy, by Newton's method."""
    inputs, wanted = np.stack([cosines.ravel().astype(np.float64), np.ones(cosines.size)], axis=1), true.ravel()
    weights = np.zeros(2)
    for _ in range(50):
        said = 1 / (1 + np.exp(-inputs @ weights))
        curvature = (inputs * (said * (1 - said))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        weights -= np.linalg.solve(curvature, inputs.T @ (said - wanted))
    return Logit(*(float(f"{each:.5g}") for each in weights))


def fit(have: Pairs, model: diptych.Embedder) -> MultiLabel:
    """The logits of both methods, by these pictures."""
    _, cosines, true = scored(have, model)
    return MultiLabel(*(fitted(cosines[method][:, :-1], true) for method in METHODS))


def halves(have: Pairs) -> tuple[Pairs, Pairs]:
    """Every second picture, and the others."""
    first, second = (Pairs(have.pictures[at::2], have.captions[at::2], have.nouns) for at in (0, 1))
    return first, second


def measured(have: Pairs, model: diptych.Embedder, multi_label: MultiLabel | None) -> list[Row]:
    """The rows of both methods."""
    sets, cosines, true = scored(have, model)
    rows = [Row("labels", true.shape[1], "labels"), Row("pictures", len(true), "pictures")]
    rows += rows_of("the frequency of all", np.full(true.shape, true.mean()), true)
    for method, labels in sets.items():
        plain = labels.classify(cosines[method], model.scale).probabilities
        rows += rows_of(f"{method}, against prompts without a label", plain, true)
        if multi_label:
            scale, bias = getattr(multi_label, method)
            said = 1 / (1 + np.exp(-(scale * cosines[method][:, :-1] + bias)))
            rows += rows_of(f"{method}, fitted ({scale:.4g}, {bias:.4g})", said, true)
    return rows


def main() -> None:
    """Fit, measure, write."""
    parser = arguments(QUESTION)
    parser.add_argument("--data", help="pairs, as `diptych train --data` takes them; by default drawn scenes")
    parser.add_argument("--model", help="the model; by default the bundled one")
    parser.add_argument("--fit", action="store_true", help="fit the logits to every second picture")
    parser.add_argument("--write", action="store_true", help="store the logits in the model's folder")
    options: argparse.Namespace = parser.parse_args()
    model = diptych.load(options.model, engine="openvino")
    reference = model.reference_pictures
    have, multi_label = pairs(options.data, 60 if options.quick else 100_000), reference and reference.multi_label
    if options.fit:
        some, have = halves(have)
        multi_label = fit(some, model)
    rows = measured(have, model, multi_label)
    if options.fit and options.write and reference:
        path = Path(model.source) / REFERENCE_FILE
        path.write_bytes(reference._replace(multi_label=multi_label).to_bytes())
    report(QUESTION, rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
