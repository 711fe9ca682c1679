"""What a fine-tuned model learnt, and what it forgot: the same measures before, after, and along the way between."""

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
from diptych.engines.pytorch import PyTorchEngine
from diptych.errors import DataError, ImageError
from diptych.media.images import Preprocess, open_image, squared
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig
from diptych.scoring import metrics
from diptych.scoring.zero_shot import PLAIN_TEMPLATES, class_vectors, prompts
from diptych.storage.atomic import atomic_write, atomic_write_text
from diptych.text.tokenizer import Tokenizer
from diptych.training.finetuning.freezing import sweep
from diptych.training.validation import Skipped, Validation, embed_pixels, embed_texts

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

MOST_PICTURES = 5000  # of a labelled set: 0.75 GB at 224 px, and an accuracy good to about a point
ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class ClassAccuracy(NamedTuple):
    """Shares in percent: of the pictures that get their own class, and the mean of that over the classes."""

    top_1: float
    macro: float


class Drift(NamedTuple):
    """The mean cosine between old and new vectors of the same picture, and of the same text: 1 where nothing moved."""

    image: float
    text: float


class Measure(NamedTuple):
    """A model's recall on held-out pairs of the new data and the drift of their vectors (None without such pairs), and
    its zero-shot accuracy on each labelled set, by the set's name."""

    recall: metrics.Retrieval | None
    drift: Drift | None
    zero_shot: dict[str, ClassAccuracy]

    @property
    def learnt(self) -> float | None:
        """One number for the new data: recall in percent, the mean over 1, 5 and 10 and both directions."""
        return None if self.recall is None else float(np.mean(self.recall))

    @property
    def kept(self) -> float | None:
        """One number for the old: accuracy in percent, the mean over all classes of a set and then over the sets."""
        return float(np.mean([each.macro for each in self.zero_shot.values()])) if self.zero_shot else None


@dataclass
class LabelledPictures:
    """A set for zero-shot classification: a folder of class folders, as `read_classes` reads them; `said` is what a
    person should know of how."""

    name: str
    classes: tuple[str, ...]
    pixels: UInt8[np.ndarray, "pictures size size 3"]
    labels: Int[np.ndarray, " pictures"]
    found: int
    skipped: list[Skipped]
    said: str = ""

    @classmethod
    def read(cls, folder: str, spec: Preprocess, *, most: int = MOST_PICTURES, threads: int = 2) -> "LabelledPictures":
        """At most `most` pictures, evenly spread, as the tower sees them. Broken ones are left out, and named in
        `skipped`. Raises DataError where there are not two classes, or no picture can be read."""
        classes = _classes(Path(folder))
        found = list(zip(classes.paths, classes.answers, strict=True))
        chosen = [found[i] for i in np.linspace(0, len(found) - 1, min(most, len(found))).astype(int)]
        with ThreadPoolExecutor(threads) as pool:
            read = list(pool.map(lambda each: _shown(each[0], spec), chosen))
        good = [
            (pixels, label) for pixels, (_, label) in zip(read, chosen, strict=True) if not isinstance(pixels, Skipped)
        ]
        skipped = [each for each in read if isinstance(each, Skipped)]
        if not good:
            raise DataError(f"none of the {len(chosen)} pictures in {folder} could be read; the first: {skipped[0]}")
        pixels, labels = zip(*good, strict=True)
        return cls(str(folder), classes.names, np.stack(pixels), np.array(labels), len(found), skipped, classes.said)

    def describe(self) -> str:
        """What was read and what was not, for people."""
        text = f"{self.name}: {len(self.pixels):,} of {self.found:,} pictures in {len(self.classes)} classes"
        reasons = Counter(skipped.reason for skipped in self.skipped)
        bad = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        text += f"; {self.said}" if self.said else ""
        return f"{text}; could not be read: {bad}, the first {self.skipped[0].key}" if bad else text

    def measure(self, engine: PyTorchEngine, tokenizer: Tokenizer) -> ClassAccuracy:
        """Zero-shot accuracy with the default prompts."""
        texts = embed_texts(engine, prompts(self.classes, PLAIN_TEMPLATES), tokenizer)
        classes = class_vectors(texts, len(PLAIN_TEMPLATES))
        return accuracy(embed_pixels(engine, self.pixels) @ classes.T, self.labels)


def _classes(folder: Path) -> ClassFolders:
    if not folder.is_dir():
        raise DataError(f"zero_shot names {folder}, which is no folder; wanted one with a folder of pictures a class.")
    if (count := len((found := read_classes(folder)).names)) < 2:
        had = f"a folder with pictures for {count} class{'es' * (not count)}"
        raise DataError(f"zero_shot names {folder}, which holds {had}; wanted one for each of two classes or more.")
    return found


def _shown(path: Path, spec: Preprocess) -> np.ndarray | Skipped:
    try:
        return squared(open_image(path, decode="fast", size_px=spec.size_px), spec)
    except ImageError as error:
        return Skipped(str(path), error.reason)


def accuracy(scores: Float[np.ndarray, "pictures classes"], labels: Int[np.ndarray, " pictures"]) -> ClassAccuracy:
    """From each picture's score for each class. Ties, and scores that are no number, count against the model; a class
    without a picture counts in neither share."""
    own = scores[np.arange(len(labels)), labels][:, None]
    right = (~(scores < own)).sum(axis=1) == 1
    shares = [right[labels == label].mean() for label in np.unique(labels)]
    return ClassAccuracy(100 * float(right.mean()), 100 * float(np.mean(shares)))


@dataclass
class Probe:
    """Measures one model after another by the same pictures and texts. The first is the one that drift is counted
    from: measure the pretrained model before the first step."""

    validation: Validation | None
    sets: Sequence[LabelledPictures]
    tokenizer: Tokenizer
    spec: Preprocess
    device: torch.device
    _first: tuple[np.ndarray, np.ndarray] | None = None

    def measure(self, network: CLIP) -> Measure:
        """All measures, in float32; `network` is put in evaluation mode."""
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
        return Measure(metrics.retrieval(images, texts, self.validation.owners), drift, zero_shot)

    def follow(
        self, config: CLIPConfig, before: dict[str, Tensor], after: dict[str, Tensor], alphas: Sequence[float] = ALPHAS,
        *, saved: float = 1.0,
    ) -> "Forgetting":  # fmt: skip
        """Measure along the line between two states (WiSE-FT), `saved` being the place that becomes the model."""

        def evaluate(state: dict[str, Tensor]) -> Measure:
            return self.measure(build(Checkpoint(config, state, None, None, "the line between two states")))

        return Forgetting(sweep(before, after, evaluate, sorted({0.0, *alphas, saved, 1.0})), saved)


@dataclass(frozen=True)
class Forgetting:
    """The measures at each place on the line from the pretrained model (0) to the fine-tuned one (1)."""

    line: dict[float, Measure]
    saved: float

    @property
    def best(self) -> float | None:
        """The place with the best mean of new recall and old accuracy; None where one of them was not measured."""
        if self.line[0.0].learnt is None or self.line[0.0].kept is None:
            return None
        return max(self.line, key=lambda alpha: self.line[alpha].learnt + self.line[alpha].kept)  # type: ignore[operator]

    def table(self) -> str:
        """A row for each place, and a sentence on what it says, or cannot say."""
        marks = {0.0: "before", 1.0: "after"}
        rows = [["alpha", "", *_heads(self.line[0.0])]]
        for alpha, measure in self.line.items():
            words = [marks.get(alpha), "saved" if alpha == self.saved else None, "best" if alpha == self.best else None]
            rows.append([f"{alpha:.2f}", ", ".join(word for word in words if word), *_cells(measure)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """Learnt and forgotten, in words."""
        before, model = self.line[0.0], self.line[self.saved]
        said = []
        if before.learnt is not None and model.learnt is not None:
            said.append(f"New pairs: mean recall {before.learnt:.1f} before, {model.learnt:.1f} in the saved model.")
        if before.kept is not None and model.kept is not None:
            said.append(
                f"Zero-shot: {before.kept:.1f} before, {model.kept:.1f} in the saved model (mean over classes)."
            )
        else:
            said.append("Forgetting was not measured, for zero_shot names no folders of pictures by class.")
            if before.drift:
                said.append("The cosines only say how far the vectors of the new pairs moved.")
        if before.learnt is None:
            said.append("Learning was not measured, for val names no held-out pairs.")
        if self.best is not None:
            said.append(f"The best mean of both is at alpha {self.best:g}.")
        return " ".join(said)

    def to_json(self) -> dict[str, object]:
        """All numbers, as plain lists and dictionaries."""
        line = [
            {
                "alpha": alpha,
                "recall": {k: v._asdict() for k, v in measure.recall._asdict().items()} if measure.recall else None,
                "drift": measure.drift._asdict() if measure.drift else None,
                "zero_shot": {name: each._asdict() for name, each in measure.zero_shot.items()},
            }
            for alpha, measure in self.line.items()
        ]
        return {"saved": self.saved, "best": self.best, "line": line}

    def save(self, folder: Path) -> Path:
        """forgetting.json and forgetting.png, the path of which is returned."""
        from diptych.display.plots import forgetting_figure

        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / "forgetting.json", json.dumps(self.to_json(), indent=2) + "\n")
        measures = list(self.line.values())
        title = "zero-shot accuracy, %, mean over classes" if measures[0].zero_shot else "cosine of new to old vectors"
        figure = forgetting_figure(
            list(self.line), [each.learnt for each in measures], self.curves(), measure=title, saved=self.saved
        )
        with atomic_write(folder / "forgetting.png") as part:
            figure.savefig(part, format="png")
        return folder / "forgetting.png"

    def curves(self) -> dict[str, list[float]]:
        """What stands for the old along the line: each set's accuracy; without sets, the cosines to the old vectors."""
        measures = list(self.line.values())
        if measures[0].zero_shot:
            return {name: [each.zero_shot[name].macro for each in measures] for name in measures[0].zero_shot}
        drifts = [each.drift for each in measures if each.drift]
        return {"pictures": [each.image for each in drifts], "texts": [each.text for each in drifts]} if drifts else {}


def _heads(measure: Measure) -> list[str]:
    recall = ["text to picture R@1/5/10", "picture to text R@1/5/10"] if measure.recall else []
    drift = ["cosine to before: pictures, texts"] if measure.drift else []
    return [*recall, *(f"{name}: top-1 (mean of classes)" for name in measure.zero_shot), *drift]


def _cells(measure: Measure) -> list[str]:
    recall = [" / ".join(f"{value:.1f}" for value in way) for way in measure.recall or ()]
    drift = [f"{measure.drift.image:.3f}, {measure.drift.text:.3f}"] if measure.drift else []
    return [*recall, *(f"{each.top_1:.1f} ({each.macro:.1f})" for each in measure.zero_shot.values()), *drift]
