"""Zero-shot classification on vectors (Radford et al. 2021, section 3.1.2)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from diptych.errors import ArgumentError, TextError
from diptych.failures import listed, no_text
from diptych.media.pixels.arrays import as_array, is_array
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from diptych.scoring.metrics import Accuracy

# Labels, or each label with its names: {"cat": ["a cat", "a kitty"]}
Labels: TypeAlias = "str | Sequence[str] | Mapping[str, str | Sequence[str]]"
Templates: TypeAlias = "str | Sequence[str]"  # prompts with {} for the label
PLAIN_TEMPLATES = ("a photo of a {}.",)
# Our own, for pictures of any kind. Their mean depends less on one wording.
GENERAL_TEMPLATES = (
    "a photo of a {}.", "a picture of a {}.", "a close-up of a {}.", "a photo of the {}.", "a small {}.", "a large {}.",
    "a {} in the background.", "part of a {}.", "a dark photo of a {}.", "a blurred picture of a {}.",
    "a drawing of a {}.", "there is a {} here.", "{}",
)  # fmt: skip
# Prompts without a label, which each label is judged against where several may fit.
NEGATIVE_PROMPTS = ("a photo.", "a picture of something else.", "a photo of nothing in particular.")
_ARTICLE, _ARTICLE_BEFORE = re.compile(r"(a|an|the)\s", re.I), re.compile(r"\b(a|an|the)\s+\{\}", re.I)

TOP_PATCH_SHARE, IMAGE_WEIGHT = 0.1, 0.1
DISPLAYED = 3  # labels of a picture in a notebook


class Classification(NamedTuple):
    """`probabilities[i, j]` is the probability that label j fits picture i; `best[i]` is picture i's likeliest label.

    With a softmax model a row sums to 1. With a sigmoid model, or with `multi_label`, each entry is independent.
    """

    labels: tuple[str, ...]
    probabilities: Float[np.ndarray, "pictures labels"]
    best: tuple[str, ...]

    def top(self, count: int) -> list[dict[str, float]]:
        """The `count` likeliest labels of each picture with their probabilities, the likeliest first."""
        return [
            {self.labels[label]: float(row[label]) for label in np.argsort(-row)[:count]} for row in self.probabilities
        ]

    def accuracy(self, true_labels: Sequence[str]) -> Accuracy:
        """How often the likeliest label of picture i is `true_labels[i]`. Raises ArgumentError for a name that is none
        of the labels."""
        from diptych.scoring.metrics import accuracy

        return accuracy(self.probabilities, label_indices(true_labels, self.labels), self.labels)

    def _repr_html_(self) -> str:
        """A row for each picture with its likeliest labels, for notebooks."""
        from diptych.display.pages import page

        rows = [
            [(self.labels[label], f"{shares[label]:.1%}") for label in np.argsort(-shares, kind="stable")[:DISPLAYED]]
            for shares in self.probabilities
        ]
        return page(Path(__file__).with_name("classification.html.jinja"), rows=rows)


class Calibration(NamedTuple):
    """The inverse temperature `scale` that fits `count` labelled pictures best. It is None if all of them are
    classified correctly: every higher scale would then fit better, and the model's own is kept."""

    scale: float | None
    count: int


class PatchEmbeddings(NamedTuple):
    """The unit vector of each picture, and those of its patches, row by row (of a ResNet: the cells of its last
    map)."""

    images: Float[np.ndarray, "pictures dim"]
    patches: Float[np.ndarray, "pictures patches dim"]


def label_indices(names: Sequence[str], labels: Sequence[str]) -> Int[np.ndarray, " names"]:
    """The index in `labels` of each name. Raises ArgumentError for a name that is none of them."""
    indices = {label: index for index, label in enumerate(labels)}
    if unknown := [name for name in names if name not in indices]:
        raise ArgumentError(f"the true label {unknown[0]!r} is none of the labels.", argument="true_labels")
    return np.array([indices[name] for name in names], np.int64)


def prompts(labels: tuple[str, ...], templates: tuple[str, ...]) -> list[str]:
    """Every template with every label, label by label; of two articles the label's stays. Raises ArgumentError for a
    template without `{}`, or for no templates."""
    if not templates:
        raise ArgumentError(f"templates is empty; wanted one or more, like {PLAIN_TEMPLATES[0]!r}.")
    for template in templates:
        if not isinstance(template, str) or "{}" not in template:
            raise ArgumentError(f"the template {template!r} has no {{}} for the label.", argument="templates")
    return [_filled(template, label) for label in labels for template in templates]


def _filled(template: str, label: str) -> str:
    """Before a label with an article of its own the template's is left out: "a photo of a {}" of "a bicycle"."""
    if _ARTICLE.match(label):
        template = _ARTICLE_BEFORE.sub("{}", template)
    return template.replace("{}", label)


def label_names(labels: Labels) -> dict[str, list[str]]:
    """The names of each label; by default the label itself. Raises ArgumentError for no labels, a repeated label, or a
    label without a name, and TextError for a label that is not a string."""
    if isinstance(labels, Mapping):
        if not_strings := [label for label in labels if not isinstance(label, str)]:
            raise TextError(f"the label {not_strings[0]!r} is not a string; pass its name.", argument="labels")
        names_by_label = {label: listed(names, f"labels[{label!r}]") for label, names in labels.items()}
    elif isinstance(labels, str) and "," in labels:
        raise ArgumentError(f"labels is one text, {labels[:40]!r}; pass a list of names.", argument="labels")
    else:
        names = listed(labels, "labels")
        if bad := next((failure for index, name in enumerate(names) if (failure := no_text(name, index))), None):
            raise TextError(bad.message.replace("text", "label", 1), argument="labels")
        names_by_label = {name: [name] for name in names}
        if len(names_by_label) < len(names):
            repeated = next(name for index, name in enumerate(names) if name in names[:index])
            raise ArgumentError(f"the label {repeated!r} is repeated; pass each label once.", argument="labels")
    if not names_by_label:
        raise ArgumentError("labels is empty; pass a list of one or more class names.", argument="labels")
    if nameless := [label for label, names in names_by_label.items() if not names]:
        raise ArgumentError(f"the label {nameless[0]!r} has no name; pass one or more.", argument="labels")
    return names_by_label


def load_templates(source: str | os.PathLike[str]) -> tuple[str, ...]:
    """A set of templates: "plain" or "general" (Diptych's), "openai" (80, from an installed open_clip), "openai-7", or
    a JSON file with a list of templates or {"templates": [...]}. Raises ArgumentError for anything else."""
    ours = {"plain": PLAIN_TEMPLATES, "general": GENERAL_TEMPLATES}
    if str(source) in ours:
        return ours[str(source)]
    if str(source) in _OPEN_CLIP:
        return _from_open_clip(_OPEN_CLIP[str(source)])
    path = Path(source)
    if not path.is_file():
        raise ArgumentError(
            f"there is no set of templates {str(source)!r}; choose {', '.join((*ours, *_OPEN_CLIP))}, or a file."
        )
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(
            f"{path} is not JSON ({error}); expected a list of templates such as 'a photo of a {{}}.'"
        ) from error
    templates = value.get("templates") if isinstance(value, dict) else value
    if not isinstance(templates, list) or not templates or not all(isinstance(each, str) for each in templates):
        raise ArgumentError(
            f'{path} contains no templates; expected ["a photo of a {{}}.", ...] or {{"templates": [...]}}.'
        )
    prompts(("x",), tuple(templates))
    return tuple(templates)


_OPEN_CLIP = {"openai": "OPENAI_IMAGENET_TEMPLATES", "openai-7": "SIMPLE_IMAGENET_TEMPLATES"}


def _from_open_clip(name: str) -> tuple[str, ...]:
    try:
        import open_clip  # type: ignore[import-not-found]
    except ImportError as error:
        raise ArgumentError(
            "OpenAI's prompts need open_clip, which is not installed: pip install open_clip_torch, or pass a file."
        ) from error
    return tuple(template("{}") for template in getattr(open_clip, name))


def class_vectors(
    prompt_vectors: Float[np.ndarray, "prompts dim"], each: int | Sequence[int]
) -> Float[np.ndarray, "labels dim"]:
    """The normalised mean of each label's prompt vectors (section 3.1.4): the weights of the zero-shot classifier.
    `each` is the number of prompts of every label, or a list with that of each."""
    if isinstance(each, int):
        return unit(prompt_vectors.reshape(-1, each, prompt_vectors.shape[-1]).mean(axis=1))
    starts = np.concatenate(([0], np.cumsum(each)[:-1]))
    return unit(np.add.reduceat(prompt_vectors, starts, axis=0) / np.array(each, np.float32)[:, None])


def unit(vectors: Float[np.ndarray, "*n dim"]) -> Float[np.ndarray, "*n dim"]:
    """The vectors divided by their lengths; zero vectors stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(np.float32).tiny)


def as_vectors(items: object, dim: int) -> Float[np.ndarray, "n dim"] | None:
    """Vectors passed instead of pictures or texts, at unit length: an array or tensor of floats (n, dim) or (dim,), or
    a list of vectors (dim,). None for anything else. Raises ArgumentError for another dim, NaN or infinity."""
    if isinstance(items, (list, tuple)) and items and all(is_array(each) and each.ndim == 1 for each in items):
        items = np.stack([as_array(each) for each in items]) if len({len(each) for each in items}) == 1 else items[0]
    if not is_array(items) or items.ndim not in (1, 2) or (vectors := as_array(items)).dtype.kind != "f":  # type: ignore[attr-defined]
        return None
    if vectors.shape[-1] != dim:
        raise ArgumentError(f"got an array of floats {vectors.shape}; this model's vectors are (n, {dim}).")
    if not np.isfinite(vectors).all():
        raise ArgumentError(f"the vectors {vectors.shape} contain NaN or infinity; leave these out.")
    return unit(np.atleast_2d(vectors.astype(np.float32, copy=False)))


def cosines(
    one: Float[np.ndarray, "rows dim"], other: Float[np.ndarray, "columns dim"]
) -> Float[np.ndarray, "rows columns"]:
    """The cosines of unit vectors, within -1 and 1 whatever the rounding."""
    return np.clip(one @ other.T, -1, 1)


def softmax(logits: Float[np.ndarray, "*n classes"]) -> Float[np.ndarray, "*n classes"]:
    """The softmax along the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def calibrated_scale(cosines: Float[np.ndarray, "n labels"], labels: Int[np.ndarray, " n"]) -> float:
    """The inverse temperature, from 1 to 1000, at which the cross entropy of a softmax over these cosines is least (Guo
    et al. 2017, "On calibration of modern neural networks", section 4.2). A few labelled pictures are enough. If all of
    them are classified correctly, the cross entropy has no minimum, and the result is 1000."""
    cosines, rows = cosines.astype(np.float64), np.arange(len(labels))

    def cross_entropy(scale: float) -> float:
        logits = scale * cosines
        top = logits.max(axis=1)
        return float(np.mean(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[rows, labels]))

    low, high = 0.0, np.log(1000.0)  # convex in the scale, so one minimum in its logarithm
    for _ in range(60):
        left, right = low + (high - low) * 0.382, low + (high - low) * 0.618
        low, high = (low, right) if cross_entropy(np.exp(left)) < cross_entropy(np.exp(right)) else (left, high)
    return float(np.exp((low + high) / 2))


def calibrated(cosines: Float[np.ndarray, "n labels"], labels: Int[np.ndarray, " n"]) -> Calibration:
    """`calibrated_scale` of labelled pictures. Raises ArgumentError for none."""
    if not len(labels):
        raise ArgumentError("there are no labelled pictures to calibrate by; pass one or more.")
    all_right = (cosines.argmax(axis=1) == labels).all()
    return Calibration(None if all_right else calibrated_scale(cosines, labels), len(labels))


def patch_pooled_scores(
    embeddings: PatchEmbeddings, classes: Float[np.ndarray, "labels dim"]
) -> Float[np.ndarray, "pictures labels"]:
    """How well some part of each picture fits each label: the mean cosine of the TOP_PATCH_SHARE of its patches that
    fit best (k-max pooling: Durand et al. 2016, "WELDON: Weakly supervised learning of deep convolutional neural
    networks", section 3.2), averaged with the cosine of the picture's vector, whose weight is IMAGE_WEIGHT. In a
    picture of several things the patches show which of them has which colour; in a picture of one thing its vector
    classifies better."""
    count = embeddings.patches.shape[1]
    best = max(1, round(TOP_PATCH_SHARE * count))
    pooled = np.partition(embeddings.patches @ classes.T, count - best, axis=1)[:, count - best :].mean(axis=1)
    return IMAGE_WEIGHT * (embeddings.images @ classes.T) + (1 - IMAGE_WEIGHT) * pooled


def multi_label_probabilities(
    cosines: Float[np.ndarray, "pictures labels"], negative_cosines: Float[np.ndarray, " pictures"], *, scale: float
) -> Float[np.ndarray, "pictures labels"]:
    """The probability of each label against prompts without a label, for pictures that several labels may fit.
    `negative_cosines` are the pictures' cosines with the vector of NEGATIVE_PROMPTS. Rows do not sum to 1."""
    return 1 / (1 + np.exp(-scale * (cosines - negative_cosines[:, None]).astype(np.float64)))


def classify(
    cosines: Float[np.ndarray, "pictures labels"],
    labels: tuple[str, ...],
    *,
    scale: float,
    bias: float | None = None,
    negative_cosines: Float[np.ndarray, " pictures"] | None = None,
) -> Classification:
    """Probabilities from the pictures' cosines with the labels: a softmax over the labels; with `bias` a sigmoid for
    each; with `negative_cosines` see `multi_label_probabilities`."""
    logits = scale * cosines.astype(np.float64)
    if negative_cosines is not None:
        probabilities = multi_label_probabilities(cosines, negative_cosines, scale=scale)
    else:
        probabilities = softmax(logits) if bias is None else 1 / (1 + np.exp(-(logits + bias)))
    best = tuple(labels[j] for j in logits.argmax(axis=1))
    return Classification(labels, probabilities, best)
