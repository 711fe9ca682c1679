"""Zero-shot classification by a model: class vectors of labels, and the cosines of pictures with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from diptych.errors import TextError
from diptych.failures import invalid_texts, listed
from diptych.scoring import zero_shot
from diptych.scoring.zero_shot import Labels, Templates

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

    from diptych.engines import Engine
    from diptych.scoring.reference_pictures import Logit


class Model(Protocol):
    """The part of `diptych.Embedder` that classification needs."""

    @property
    def engine(self) -> Engine: ...
    @property
    def scale(self) -> float: ...
    @property
    def bias(self) -> float | None: ...
    def embed_texts(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class LabelSet:
    """Labels as a model judges them: the unit vector of each, then, with `multi_label`, that of prompts without one."""

    model: Model
    names: tuple[str, ...]
    vectors: Float[np.ndarray, "rows dim"]
    patches: bool

    @classmethod
    def of(
        cls, model: Model, names: tuple[str, ...], vectors: np.ndarray, *, multi_label: bool, patches: bool
    ) -> LabelSet:
        """From `label_vectors`; the prompts without a label are embedded here."""
        if multi_label:
            prompts = zero_shot.NEGATIVE_PROMPTS
            negative = zero_shot.class_vectors(model.embed_texts(prompts, truncate=True), len(prompts))
            vectors = np.concatenate([vectors, negative])
        return cls(model, names, vectors, patches)

    @property
    def multi_label(self) -> bool:
        """Whether each label is judged by itself."""
        return len(self.vectors) > len(self.names)

    def encode(self, pixels: UInt8[np.ndarray, "pictures size size 3"]) -> Float[np.ndarray, "pictures rows"]:
        """From pixels to cosines with each row of `vectors`."""
        if self.patches:
            return zero_shot.patch_pooled_scores(self.model.engine.encode_patches(pixels), self.vectors)
        return self.model.engine.encode_images(pixels) @ self.vectors.T

    def classify(
        self, cosines: Float[np.ndarray, "pictures rows"], scale: float | None = None
    ) -> zero_shot.Classification:
        """The labels of pictures with these cosines, at the model's own temperature or at `scale`.

        Labels that are judged each by itself have the probabilities that the model's files were fitted to: of the
        photographs of which 30 % is said, the captions of about 30 % name the label. Without such files, or at another
        `scale`, they are judged against prompts without a label."""
        own = cosines[:, : len(self.names)]
        if scale is None and (fitted := self._fitted):
            return zero_shot.classify(own, self.names, scale=fitted.scale, bias=fitted.bias)
        negative = cosines[:, -1] if self.multi_label else None
        bias = self.model.bias if scale is None else None
        scale = self.model.scale if scale is None else scale
        return zero_shot.classify(own, self.names, scale=scale, bias=bias, negative_cosines=negative)

    @property
    def scale(self) -> float:
        """The inverse temperature of `classify`, where no other is given."""
        return fitted.scale if (fitted := self._fitted) else self.model.scale

    @property
    def _fitted(self) -> Logit | None:
        """What the model's files say of labels that are judged each by itself."""
        reference = getattr(self.model, "reference_pictures", None) if self.multi_label else None
        if not reference or not reference.multi_label:
            return None
        return reference.multi_label.patches if self.patches else reference.multi_label.picture

    def calibrate(
        self, cosines: Float[np.ndarray, "pictures rows"], true_labels: Sequence[str]
    ) -> zero_shot.Calibration:
        """The `scale` for `classify` that fits pictures with these cosines and labels best."""
        return zero_shot.calibrated(cosines[:, : len(self.names)], zero_shot.label_indices(true_labels, self.names))


def label_vectors(
    model: Model, labels: Labels, *, templates: Templates, truncate: bool
) -> Float[np.ndarray, "labels dim"]:
    """See `Embedder.embed_labels`."""
    names_by_label, templates = zero_shot.label_names(labels), tuple(listed(templates, "templates"))
    names = [name for names in names_by_label.values() for name in names]
    if failures := invalid_texts(names):
        raise TextError(next(iter(failures.values())).message.replace("text", "label", 1))
    vectors = model.embed_texts(zero_shot.prompts(tuple(names), templates), truncate=truncate)
    return zero_shot.class_vectors(vectors, [len(names) * len(templates) for names in names_by_label.values()])
