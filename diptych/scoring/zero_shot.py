"""Zero-shot classification on vectors (Radford et al. 2021, section 3.1.2)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from diptych.errors import ArgumentError
from diptych.failures import TextError, listed, no_text
from diptych.media.pixels.arrays import as_array, is_numbers
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Names of labels, or what each is called: {"cat": ["a cat", "a kitty"]}
Labels: TypeAlias = "str | Sequence[str] | Mapping[str, str | Sequence[str]]"
PLAIN_TEMPLATES = ("a photo of a {}.",)
# Our own, for pictures of any kind; averaged, they name a thing with less of any one wording.
GENERAL_TEMPLATES = (
    "a photo of a {}.", "a picture of a {}.", "a close-up of a {}.", "a photo of the {}.", "a small {}.", "a large {}.",
    "a {} in the background.", "part of a {}.", "a dark photo of a {}.", "a blurred picture of a {}.",
    "a drawing of a {}.", "there is a {} here.", "{}",
)  # fmt: skip
NOTHING = ("a photo.", "a picture of something else.", "a photo of nothing in particular.")

BEST_PLACES, WHOLE = 0.1, 0.1
SHOWN = 3  # labels of a picture in a notebook


class Classification(NamedTuple):
    """`probabilities[i, j]` is that of picture i being `labels[j]`; `best[i]` is picture i's likeliest label.

    Under a softmax model a row sums to 1; under a sigmoid model each entry is a judgement of its own.
    """

    labels: tuple[str, ...]
    probabilities: Float[np.ndarray, "pictures labels"]
    best: tuple[str, ...]

    def _repr_html_(self) -> str:
        """A row a picture, the likeliest labels first, where a notebook shows a result."""
        from diptych.display.pages import page

        rows = [
            [(self.labels[label], f"{shares[label]:.1%}") for label in np.argsort(-shares, kind="stable")[:SHOWN]]
            for shares in self.probabilities
        ]
        return page(Path(__file__).with_name("classification.html.jinja"), rows=rows)


class PatchEmbeddings(NamedTuple):
    """A unit vector for each picture, and one for each patch of each picture, row by row."""

    images: Float[np.ndarray, "pictures dim"]
    patches: Float[np.ndarray, "pictures patches dim"]


def prompts(labels: tuple[str, ...], templates: tuple[str, ...]) -> list[str]:
    """Every template filled with every label, label by label. ArgumentError where one has no `{}`, or none came."""
    if not templates:
        raise ArgumentError(f"templates is empty; wanted one or more, like {PLAIN_TEMPLATES[0]!r}.")
    for template in templates:
        if not isinstance(template, str) or "{}" not in template:
            raise ArgumentError(
                f"the template {template!r} has no {{}} for the label to go into.", argument="templates"
            )
    return [template.replace("{}", label) for label in labels for template in templates]


def synonyms(labels: Labels) -> dict[str, list[str]]:
    """What each label is called: itself, where nothing else is said. ArgumentError where there is no label, one that
    stands there twice, or one that is called nothing."""
    if isinstance(labels, Mapping):
        if bad_names := [name for name in labels if not isinstance(name, str)]:
            raise TextError(f"the label {bad_names[0]!r} is no string; wanted its name.", argument="labels")
        called = {name: listed(names, f"labels[{name!r}]") for name, names in labels.items()}
    elif isinstance(labels, str) and "," in labels:
        raise ArgumentError(f"labels came as one text, {labels[:40]!r}; pass a list of names.", argument="labels")
    else:
        names = listed(labels, "labels")
        if bad := next((failure for at, name in enumerate(names) if (failure := no_text(name, at))), None):
            raise TextError(bad.message.replace("text", "label", 1), argument="labels")
        called = {name: [name] for name in names}
        if len(called) < len(names):
            twice = next(name for at, name in enumerate(names) if name in names[:at])
            raise ArgumentError(f"the label {twice!r} came twice; each would share its part.", argument="labels")
    if not called:
        raise ArgumentError("labels is empty; pass a list of one or more class names.", argument="labels")
    if bare := [name for name, names in called.items() if not names]:
        raise ArgumentError(f"the label {bare[0]!r} is called nothing; give it one name or more.", argument="labels")
    return called


def templates_of(source: str | os.PathLike[str]) -> tuple[str, ...]:
    """A set of templates: "plain" or "general", which are ours; "openai" (80, of an installed open_clip) or "openai-7";
    or a JSON file with a list of them, or with {"templates": [...]}. Raises ArgumentError that says what is wrong."""
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
        said = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(
            f"{path} is no JSON ({error}); wanted a list of templates such as 'a photo of a {{}}.'"
        ) from error
    found = said.get("templates") if isinstance(said, dict) else said
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        raise ArgumentError(f'{path} holds no templates; wanted ["a photo of a {{}}.", ...] or {{"templates": [...]}}.')
    prompts(("x",), tuple(found))
    return tuple(found)


_OPEN_CLIP = {"openai": "OPENAI_IMAGENET_TEMPLATES", "openai-7": "SIMPLE_IMAGENET_TEMPLATES"}


def _from_open_clip(name: str) -> tuple[str, ...]:
    try:
        import open_clip  # type: ignore[import-not-found]
    except ImportError as error:
        raise ArgumentError(
            "OpenAI's prompts are in open_clip, which is not installed: pip install open_clip_torch, or pass a file."
        ) from error
    return tuple(template("{}") for template in getattr(open_clip, name))


def class_vectors(
    prompt_vectors: Float[np.ndarray, "prompts dim"], each: int | Sequence[int]
) -> Float[np.ndarray, "labels dim"]:
    """The mean of each label's prompts in vector space, made unit length again (section 3.1.4). `each` is the number
    of a label's prompts, or that of every label in turn."""
    if isinstance(each, int):
        return unit(prompt_vectors.reshape(-1, each, prompt_vectors.shape[-1]).mean(axis=1))
    starts = np.concatenate(([0], np.cumsum(each)[:-1]))
    return unit(np.add.reduceat(prompt_vectors, starts, axis=0) / np.array(each, np.float32)[:, None])


def unit(vectors: Float[np.ndarray, "*n dim"]) -> Float[np.ndarray, "*n dim"]:
    """The same directions at length 1; a vector of zeros stays one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(np.float32).tiny)


def as_vectors(items: object, dim: int) -> Float[np.ndarray, "n dim"] | None:
    """Vectors that came where pictures or texts may come, at unit length: an array or tensor of floats, (n, dim), or
    (dim,) for one alone, or a list of such. None for anything else. ArgumentError for vectors that are not of this
    length, or not finite."""
    if isinstance(items, (list, tuple)) and items and all(is_numbers(each) and each.ndim == 1 for each in items):
        items = np.stack([as_array(each) for each in items]) if len({len(each) for each in items}) == 1 else items[0]
    if not is_numbers(items) or items.ndim not in (1, 2) or (vectors := as_array(items)).dtype.kind != "f":  # type: ignore[attr-defined]
        return None
    if vectors.shape[-1] != dim:
        raise ArgumentError(f"an array of floats {vectors.shape} came; this model's vectors are (n, {dim}).")
    if not np.isfinite(vectors).all():
        raise ArgumentError(f"the vectors {vectors.shape} that came hold NaN or infinity; leave such vectors out.")
    return unit(np.atleast_2d(vectors.astype(np.float32, copy=False)))


def cosines(
    one: Float[np.ndarray, "rows dim"], other: Float[np.ndarray, "columns dim"]
) -> Float[np.ndarray, "rows columns"]:
    """Of unit vectors, with each other. Rounding leaves some products a little above 1 or below -1, which none is."""
    return np.clip(one @ other.T, -1, 1)


def softmax(logits: Float[np.ndarray, "*n classes"]) -> Float[np.ndarray, "*n classes"]:
    """Probabilities along the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def calibrated_scale(cosines: Float[np.ndarray, "n labels"], answers: Int[np.ndarray, " n"]) -> float:
    """The inverse temperature at which a softmax over these cosines is least surprised by the right answers (Guo et al.
    2017, "On calibration of modern neural networks", section 4.2), between 1 and 1000; a few labelled pictures do. It
    is 1000 where all of them are right: then nothing says how sure is too sure."""
    cosines, rows = cosines.astype(np.float64), np.arange(len(answers))

    def surprise(scale: float) -> float:
        logits = scale * cosines
        top = logits.max(axis=1)
        return float(np.mean(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[rows, answers]))

    low, high = 0.0, np.log(1000.0)  # convex in the scale, and so with one minimum in its logarithm
    for _ in range(60):
        left, right = low + (high - low) * 0.382, low + (high - low) * 0.618
        low, high = (low, right) if surprise(np.exp(left)) < surprise(np.exp(right)) else (left, high)
    return float(np.exp((low + high) / 2))


def anywhere(seen: PatchEmbeddings, classes: Float[np.ndarray, "labels dim"]) -> Float[np.ndarray, "pictures labels"]:
    """How well some part of each picture fits each label: the mean cosine of the tenth of its places that fit best
    (k-max pooling: Durand et al. 2016, "WELDON: Weakly supervised learning of deep convolutional neural networks",
    section 3.2), and with a weight of WHOLE the cosine of the picture's own vector. Of several things the one vector
    tells which colours and which kinds there are, the places which kind has which colour; of one thing the vector
    knows the kind better."""
    count = seen.patches.shape[1]
    best = max(1, round(BEST_PLACES * count))
    parts = np.partition(seen.patches @ classes.T, count - best, axis=1)[:, count - best :].mean(axis=1)
    return WHOLE * (seen.images @ classes.T) + (1 - WHOLE) * parts


def each_label(
    cosines: Float[np.ndarray, "pictures labels"], nothing: Float[np.ndarray, " pictures"], *, scale: float
) -> Float[np.ndarray, "pictures labels"]:
    """For pictures that several labels may fit: the probability of each, as against prompts that name no label, with
    whose vector (class_vectors of NOTHING) the pictures have the cosines `nothing`. Rows do not sum to 1."""
    return 1 / (1 + np.exp(-scale * (cosines - nothing[:, None]).astype(np.float64)))


def classify(
    cosines: Float[np.ndarray, "pictures labels"],
    labels: tuple[str, ...],
    *,
    scale: float,
    bias: float | None = None,
) -> Classification:
    """Probabilities from the pictures' cosines with the labels: a softmax over the labels, or with a `bias` a sigmoid
    each."""
    logits = scale * cosines.astype(np.float64)
    probabilities = softmax(logits) if bias is None else 1 / (1 + np.exp(-(logits + bias)))
    best = tuple(labels[j] for j in logits.argmax(axis=1))
    return Classification(labels, probabilities, best)
