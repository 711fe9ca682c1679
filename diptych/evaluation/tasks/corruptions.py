"""Corrupted pictures at five strengths, and what they cost a model.

After Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations",
section 4: of their fifteen kinds Gaussian noise, JPEG and contrast, and Gaussian blur of their extra ones, with the
strengths of the code that made ImageNet-C, on a centre crop of 224 px, as there.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageFilter

from diptych.errors import ArgumentError
from diptych.evaluation.tasks.features import Change
from diptych.evaluation.tasks.tasks import Job, Outcome, of_templates
from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.scoring import metrics

Kind = Literal["noise", "blur", "jpeg", "contrast"]
KINDS: tuple[Kind, ...] = get_args(Kind)
STRENGTHS = range(1, 6)
SIZE_PX = 224
NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of the range from black to white
BLUR = (1, 2, 3, 4, 6)  # standard deviation in pixels
JPEG = (25, 18, 15, 10, 7)  # quality
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of each pixel's distance from the picture's mean


def noise(image: Image.Image, strength: int, seed: int = 0) -> Image.Image:
    """Gaussian noise on every channel of every pixel, the same for the same seed."""
    shares = np.asarray(image.convert("RGB"), np.float64) / 255
    drawn = np.random.default_rng([seed, strength]).normal(scale=NOISE[strength - 1], size=shares.shape)
    return _picture(shares + drawn)


def blur(image: Image.Image, strength: int, seed: int = 0) -> Image.Image:
    """Gaussian blur; `seed` changes nothing."""
    return image.convert("RGB").filter(ImageFilter.GaussianBlur(BLUR[strength - 1]))


def jpeg(image: Image.Image, strength: int, seed: int = 0) -> Image.Image:
    """Saved as a JPEG of low quality and opened again; `seed` changes nothing."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=JPEG[strength - 1])
    return Image.open(file).convert("RGB")


def contrast(image: Image.Image, strength: int, seed: int = 0) -> Image.Image:
    """Every pixel nearer to the mean colour; `seed` changes nothing."""
    shares = np.asarray(image.convert("RGB"), np.float64) / 255
    mean = shares.mean(axis=(0, 1), keepdims=True)
    return _picture((shares - mean) * CONTRAST[strength - 1] + mean)


def _picture(shares: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8))


_FUNCTIONS: dict[Kind, Callable[[Image.Image, int, int], Image.Image]] = {
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
    "contrast": contrast,
}


def corrupt(image: Image.Image, kind: Kind, strength: int, *, seed: int = 0) -> Image.Image:
    """The picture in RGB, corrupted in the size that it has; the strengths are meant for 224 px. ArgumentError for a
    kind or strength that there is not."""
    if kind not in _FUNCTIONS or strength not in STRENGTHS:
        raise ArgumentError(f"{kind!r} at strength {strength}; wanted one of {', '.join(KINDS)} at 1, 2, 3, 4 or 5.")
    return _FUNCTIONS[kind](image, strength, seed)


def change(kind: Kind, strength: int, seed: int = 0) -> Change:
    """A corruption of the centre crop of 224 px, with a draw of its own for each picture."""
    return Change(f"{kind} {strength}, seed {seed}, {SIZE_PX} px", partial(_cropped, kind, strength, seed), SIZE_PX)


def _cropped(kind: Kind, strength: int, seed: int, image: Image.Image, own: int) -> Image.Image:
    crop = Image.fromarray(resized_and_cropped(image, Preprocess(size_px=SIZE_PX)))
    return corrupt(crop, kind, strength, seed=own + seed)


def settings(job: Job) -> dict[str, Any]:
    """Prompts, and what the corruptions are."""
    kinds = f"{', '.join(KINDS)} at 1 to 5, on {SIZE_PX} px"
    return {**of_templates(job), "corruption": kinds}


def corruptions_task(job: Job) -> Outcome:
    """Zero-shot accuracy on clean pictures, on each corruption, and its mean over these."""
    labelled, clean = job.labelled, job.seen(job.labelled)
    answers = labelled.answers[clean.places]
    rights = {"clean": metrics.is_right(clean.vectors @ job.classes.T, answers)}
    for kind in KINDS:
        for strength in STRENGTHS:
            seen = job.seen(labelled, change(kind, strength, job.seed))
            rights[f"{kind}_{strength}"] = metrics.is_right(seen.vectors @ job.classes.T, labelled.answers[seen.places])
    corrupted = [right for name, right in rights.items() if name != "clean"]
    numbers = {"clean": rights["clean"], "mean": np.mean(corrupted, axis=0)} | rights
    shares = {name: 100 * float(right.mean(dtype=np.float64)) for name, right in numbers.items()}
    per_item = {"places": clean.places, "right": rights["clean"]}
    per_item |= {f"{name}_right": right for name, right in numbers.items() if name != "clean"}
    return Outcome(shares, len(answers), clean.reasons(), {}, per_item)
