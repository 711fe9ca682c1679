"""Zero-shot classification on vectors (Radford et al. 2021, section 3.1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

PLAIN_TEMPLATES = ("a photo of a {}.",)


class Classification(NamedTuple):
    """`probabilities[i, j]` is that of picture i being `labels[j]`; `best[i]` is picture i's likeliest label.

    Under a softmax model a row sums to 1; under a sigmoid model each entry is a judgement of its own.
    """

    labels: tuple[str, ...]
    probabilities: Float[np.ndarray, "pictures labels"]
    best: tuple[str, ...]


def prompts(labels: tuple[str, ...], templates: tuple[str, ...]) -> list[str]:
    """Every template filled with every label, label by label. ValueError where a template has no `{}`, or none came."""
    if not templates:
        raise ValueError(f"templates is empty; wanted one or more, like {PLAIN_TEMPLATES[0]!r}.")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"the template {template!r} has no {{}} for the label to go into.")
    return [template.replace("{}", label) for label in labels for template in templates]


def class_vectors(prompt_vectors: Float[np.ndarray, "prompts dim"], templates: int) -> Float[np.ndarray, "labels dim"]:
    """The mean of each label's prompts in vector space, made unit length again (section 3.1.4)."""
    return unit(prompt_vectors.reshape(-1, templates, prompt_vectors.shape[-1]).mean(axis=1))


def unit(vectors: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
    """The same directions at length 1; a vector of zeros stays one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def classify(
    images: Float[np.ndarray, "pictures dim"],
    classes: Float[np.ndarray, "labels dim"],
    labels: tuple[str, ...],
    *,
    scale: float,
    bias: float | None = None,
) -> Classification:
    """Probabilities from unit vectors: a softmax over the labels, or with a `bias` a sigmoid each."""
    logits = scale * (images @ classes.T).astype(np.float64)
    if bias is None:
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = weights / weights.sum(axis=1, keepdims=True)
    else:
        probabilities = 1 / (1 + np.exp(-(logits + bias)))
    best = tuple(labels[j] for j in logits.argmax(axis=1))
    return Classification(labels, probabilities, best)
