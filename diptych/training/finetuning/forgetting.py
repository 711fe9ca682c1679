"""Forgetting: the same measures of the pretrained model, the fine-tuned one, and interpolations between them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diptych.checkpoint import Checkpoint, build
from diptych.data.sources.classes import ClassFolders, read_classes
from diptych.deprecation import RenamedAttribute
from diptych.engines.pytorch import PyTorchEngine
from diptych.errors import DataError, ImageError
from diptych.media.images import open_image
from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig
from diptych.scoring import metrics
from diptych.scoring.zero_shot import PLAIN_TEMPLATES, class_vectors, prompts
from diptych.storage.atomic import atomic_write, atomic_write_text
from diptych.text.tokenizer import Tokenizer
from diptych.training.finetuning.freezing import sweep
from diptych.training.validation import SkippedPair, Validation, embed_pixels, embed_texts

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

MAX_PICTURES = 5000  # of a labelled set: 0.75 GB at 224 px, and accuracy to about one percentage point
ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class ClassAccuracy(NamedTuple):
    """Accuracy in percent: of all pictures, and the mean over classes."""

    top_1: float
    macro: float


class Drift(NamedTuple):
    """The mean cosine between old and new vectors of the same pictures, and of the same texts: 1 means no change."""

    image: float
    text: float


class Measure(NamedTuple):
    """A model's recall on held-out pairs of the new task and the drift of their vectors (None without such pairs), and
    its zero-shot accuracy on each labelled set, by name."""

    recall: metrics.Retrieval | None
    drift: Drift | None
    zero_shot: dict[str, ClassAccuracy]

    @property
    def new_task_score(self) -> float | None:
        """Mean recall on the new pairs in percent, over 1, 5 and 10 and both directions."""
        return None if self.recall is None else float(np.mean(self.recall))

    @property
    def retained_score(self) -> float | None:
        """Mean zero-shot accuracy in percent, over the classes of a set and then over the sets."""
        return float(np.mean([each.macro for each in self.zero_shot.values()])) if self.zero_shot else None

    learnt = RenamedAttribute("learnt", "new_task_score")
    kept = RenamedAttribute("kept", "retained_score")


@dataclass
class LabelledImages:
    """A set for zero-shot classification, from a folder of class folders (see `read_classes`). `note` is a remark on
    how the folder was read."""

    name: str
    classes: tuple[str, ...]
    pixels: UInt8[np.ndarray, "pictures size size 3"]
    labels: Int[np.ndarray, " pictures"]
    available: int
    skipped: list[SkippedPair]
    note: str = ""

    @classmethod
    def read(cls, folder: str, spec: Preprocess, *, limit: int = MAX_PICTURES, threads: int = 2) -> "LabelledImages":
        """At most `limit` pictures, evenly spread, at the tower's input size. Unreadable ones are in `skipped`. Raises
        DataError if there are fewer than two classes, or no picture can be read."""
        classes = _classes(Path(folder))
        found = list(zip(classes.paths, classes.labels, strict=True))
        chosen = [found[i] for i in np.linspace(0, len(found) - 1, min(limit, len(found))).astype(int)]
        with ThreadPoolExecutor(threads) as pool:
            read = list(pool.map(lambda each: _model_input(each[0], spec), chosen))
        readable = [
            (pixels, label)
            for pixels, (_, label) in zip(read, chosen, strict=True)
            if not isinstance(pixels, SkippedPair)
        ]
        skipped = [each for each in read if isinstance(each, SkippedPair)]
        if not readable:
            raise DataError(f"none of the {len(chosen)} pictures in {folder} could be read; the first: {skipped[0]}.")
        pixels, labels = zip(*readable, strict=True)
        return cls(
            str(folder), classes.names, np.stack(pixels), np.array(labels), len(found), skipped, classes.description
        )

    def describe(self) -> str:
        """A sentence on the pictures that were read and those that were not."""
        text = f"{self.name}: {len(self.pixels):,} of {self.available:,} pictures in {len(self.classes)} classes"
        reasons = Counter(skipped.reason for skipped in self.skipped)
        bad = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        text += f"; {self.note}" if self.note else ""
        return f"{text}; could not be read: {bad}, the first {self.skipped[0].key}" if bad else text

    def measure(self, engine: PyTorchEngine, tokenizer: Tokenizer) -> ClassAccuracy:
        """Zero-shot accuracy with the default prompts."""
        texts = embed_texts(engine, prompts(self.classes, PLAIN_TEMPLATES), tokenizer)
        classes = class_vectors(texts, len(PLAIN_TEMPLATES))
        return accuracy(embed_pixels(engine, self.pixels) @ classes.T, self.labels)


def _classes(folder: Path) -> ClassFolders:
    if not folder.is_dir():
        raise DataError(
            f"zero_shot names {folder}, which is not a folder; wanted one with a folder of pictures for each class."
        )
    if (count := len((found := read_classes(folder)).names)) < 2:
        had = f"a folder with pictures for {count} class{'es' * (not count)}"
        raise DataError(f"zero_shot names {folder}; it is {had}; wanted two classes or more.")
    return found


def _model_input(path: Path, spec: Preprocess) -> np.ndarray | SkippedPair:
    try:
        return resized_and_cropped(open_image(path, decode="fast", size_px=spec.size_px), spec)
    except ImageError as error:
        return SkippedPair(str(path), error.reason)


def accuracy(scores: Float[np.ndarray, "pictures classes"], labels: Int[np.ndarray, " pictures"]) -> ClassAccuracy:
    """Accuracy of each picture's scores for the classes. Ties and NaN count as wrong; a class without pictures is left
    out of the mean."""
    own = scores[np.arange(len(labels)), labels][:, None]
    right = (~(scores < own)).sum(axis=1) == 1
    shares = [right[labels == label].mean() for label in np.unique(labels)]
    return ClassAccuracy(100 * float(right.mean()), 100 * float(np.mean(shares)))


@dataclass
class ForgettingProbe:
    """Measures several models by the same pictures and texts. Drift is relative to the first one, so measure the
    pretrained model first."""

    validation: Validation | None
    sets: Sequence[LabelledImages]
    tokenizer: Tokenizer
    spec: Preprocess
    device: torch.device
    _first: tuple[np.ndarray, np.ndarray] | None = None

    def measure(self, network: CLIP) -> Measure:
        """All measures, in float32. Puts `network` in evaluation mode."""
        engine = PyTorchEngine(network, self.spec, self.device)
        zero_shot = {each.name: each.measure(engine, self.tokenizer) for each in self.sets}
        if self.validation is None:
            return Measure(None, None, zero_shot)
        images = embed_pixels(engine, self.validation.pixels)
        texts = embed_texts(engine, self.validation.captions, self.tokenizer)
        self._first = self._first or (images, texts)
        drift = Drift(
            *(float((new * old).sum(axis=1).mean()) for new, old in zip((images, texts), self._first, strict=True))
        )
        return Measure(metrics.retrieval(images, texts, self.validation.image_index), drift, zero_shot)

    def measure_interpolation(
        self, config: CLIPConfig, before: dict[str, Tensor], after: dict[str, Tensor], alphas: Sequence[float] = ALPHAS,
        *, saved: float = 1.0,
    ) -> "Forgetting":  # fmt: skip
        """Measure the interpolations between two states (WiSE-FT); `saved` is the alpha of the saved model."""

        def evaluate(state: dict[str, Tensor]) -> Measure:
            return self.measure(build(Checkpoint(config, state, None, None, "an interpolation of two states")))

        return Forgetting(sweep(before, after, evaluate, sorted({0.0, *alphas, saved, 1.0})), saved)


@dataclass(frozen=True)
class Forgetting:
    """Measures by alpha, from the pretrained model (0) to the fine-tuned one (1), and the alpha of the saved model."""

    path_measures: dict[float, Measure]
    saved_alpha: float

    line = RenamedAttribute("line", "path_measures")
    saved = RenamedAttribute("saved", "saved_alpha")

    @property
    def best(self) -> float | None:
        """The alpha with the best mean of new recall and old accuracy; None if one of them was not measured."""
        if self.path_measures[0.0].new_task_score is None or self.path_measures[0.0].retained_score is None:
            return None
        scores = {alpha: (each.new_task_score, each.retained_score) for alpha, each in self.path_measures.items()}
        return max(scores, key=lambda alpha: sum(scores[alpha]))  # type: ignore[arg-type]

    def table(self) -> str:
        """A row for each alpha, then the summary."""
        rows = [["alpha", "", *_column_titles(self.path_measures[0.0])]]
        for alpha, measure in self.path_measures.items():
            marks = {"before": 0.0, "after": 1.0, "saved": self.saved_alpha, "best": self.best}
            marked = ", ".join(mark for mark, at_alpha in marks.items() if alpha == at_alpha)
            rows.append([f"{alpha:.2f}", marked, *_cells(measure)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """Sentences on learning and forgetting."""
        before, model = self.path_measures[0.0], self.path_measures[self.saved_alpha]
        sentences = []
        old, new = before.new_task_score, model.new_task_score
        if old is not None and new is not None:
            sentences.append(f"New pairs: mean recall {old:.1f} before, {new:.1f} in the saved model.")
        old, new = before.retained_score, model.retained_score
        if old is not None and new is not None:
            sentences.append(f"Zero-shot: {old:.1f} before, {new:.1f} in the saved model (mean over classes).")
        else:
            sentences.append("Forgetting was not measured: zero_shot names no folders of pictures by class.")
            if before.drift:
                sentences.append("The cosines only show how far the vectors of the new pairs moved.")
        if before.new_task_score is None:
            sentences.append("Learning was not measured: val names no held-out pairs.")
        if self.best is not None:
            sentences.append(f"The best mean of both is at alpha {self.best:g}.")
        return " ".join(sentences)

    def to_json(self) -> dict[str, object]:
        """All numbers as plain lists and dictionaries."""
        path = [
            {
                "alpha": alpha,
                "recall": {k: v._asdict() for k, v in measure.recall._asdict().items()} if measure.recall else None,
                "drift": measure.drift._asdict() if measure.drift else None,
                "zero_shot": {name: each._asdict() for name, each in measure.zero_shot.items()},
            }
            for alpha, measure in self.path_measures.items()
        ]
        return {"saved": self.saved_alpha, "best": self.best, "line": path}

    def save(self, folder: Path) -> Path:
        """Write forgetting.json and forgetting.png; returns the path of the latter."""
        from diptych.display.plots import forgetting_figure

        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / "forgetting.json", json.dumps(self.to_json(), indent=2) + "\n")
        measures = list(self.path_measures.values())
        title = "zero-shot accuracy, %, mean over classes" if measures[0].zero_shot else "cosine of new to old vectors"
        figure = forgetting_figure(
            list(self.path_measures),
            [each.new_task_score for each in measures],
            self.curves(),
            measure=title,
            saved=self.saved_alpha,
        )
        with atomic_write(folder / "forgetting.png") as part:
            figure.savefig(part, format="png")
        return folder / "forgetting.png"

    def curves(self) -> dict[str, list[float]]:
        """The retained skill at each alpha: the accuracy on each set, or without sets the cosines to the old
        vectors."""
        measures = list(self.path_measures.values())
        if measures[0].zero_shot:
            return {name: [each.zero_shot[name].macro for each in measures] for name in measures[0].zero_shot}
        drifts = [each.drift for each in measures if each.drift]
        return {"pictures": [each.image for each in drifts], "texts": [each.text for each in drifts]} if drifts else {}


def _column_titles(measure: Measure) -> list[str]:
    recall = ["text to picture R@1/5/10", "picture to text R@1/5/10"] if measure.recall else []
    drift = ["cosine to before: pictures, texts"] if measure.drift else []
    return [*recall, *(f"{name}: top-1 (mean of classes)" for name in measure.zero_shot), *drift]


def _cells(measure: Measure) -> list[str]:
    recall = [" / ".join(f"{value:.1f}" for value in way) for way in measure.recall or ()]
    drift = [f"{measure.drift.image:.3f}, {measure.drift.text:.3f}"] if measure.drift else []
    return [*recall, *(f"{each.top_1:.1f} ({each.macro:.1f})" for each in measure.zero_shot.values()), *drift]
