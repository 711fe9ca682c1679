"""Accuracy on corrupted pictures at five severities.

Four corruptions of Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and
perturbations", section 4: Gaussian noise, JPEG, contrast and Gaussian blur, at ImageNet-C's severities and, as there,
on a centre crop of 224 px.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageFilter

from diptych.errors import ArgumentError
from diptych.evaluation.tasks.features import ImageTransform
from diptych.evaluation.tasks.job import EvaluationJob, TaskResult, template_settings
from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.scoring import metrics

Corruption = Literal["noise", "blur", "jpeg", "contrast"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
SEVERITIES = range(1, 6)
SIZE_PX = 224
NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of the range from black to white
BLUR = (1, 2, 3, 4, 6)  # standard deviation in pixels
JPEG = (25, 18, 15, 10, 7)  # quality
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # the factor of each pixel's distance from the picture's mean


def noise(image: Image.Image, severity: int, seed: int = 0) -> Image.Image:
    """Gaussian noise on every channel of every pixel, the same for the same seed."""
    shares = np.asarray(image.convert("RGB"), np.float64) / 255
    drawn = np.random.default_rng([seed, severity]).normal(scale=NOISE[severity - 1], size=shares.shape)
    return _picture(shares + drawn)


def blur(image: Image.Image, severity: int, seed: int = 0) -> Image.Image:
    """Gaussian blur; `seed` is not used."""
    return image.convert("RGB").filter(ImageFilter.GaussianBlur(BLUR[severity - 1]))


def jpeg(image: Image.Image, severity: int, seed: int = 0) -> Image.Image:
    """Saved as a JPEG of low quality and opened again; `seed` is not used."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=JPEG[severity - 1])
    return Image.open(file).convert("RGB")


def contrast(image: Image.Image, severity: int, seed: int = 0) -> Image.Image:
    """Every pixel moved towards the mean colour; `seed` is not used."""
    shares = np.asarray(image.convert("RGB"), np.float64) / 255
    mean = shares.mean(axis=(0, 1), keepdims=True)
    return _picture((shares - mean) * CONTRAST[severity - 1] + mean)


def _picture(shares: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8))


_FUNCTIONS: dict[Corruption, Callable[[Image.Image, int, int], Image.Image]] = {
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
    "contrast": contrast,
}


def corrupt(image: Image.Image, corruption: Corruption, severity: int, *, seed: int = 0) -> Image.Image:
    """The picture in RGB, corrupted at its own size; the severities are meant for 224 px. Raises ArgumentError for an
    unknown corruption or severity."""
    if corruption not in _FUNCTIONS or severity not in SEVERITIES:
        raise ArgumentError(
            f"{corruption!r} at severity {severity}; wanted one of {', '.join(CORRUPTIONS)} at 1, 2, 3, 4 or 5."
        )
    return _FUNCTIONS[corruption](image, severity, seed)


def corruption_transform(corruption: Corruption, severity: int, seed: int = 0) -> ImageTransform:
    """A corruption of the centre crop of 224 px, with a random draw for each picture."""
    return ImageTransform(
        f"{corruption} {severity}, seed {seed}, {SIZE_PX} px", partial(_cropped, corruption, severity, seed), SIZE_PX
    )


def _cropped(corruption: Corruption, severity: int, seed: int, image: Image.Image, own: int) -> Image.Image:
    crop = Image.fromarray(resized_and_cropped(image, Preprocess(size_px=SIZE_PX)))
    return corrupt(crop, corruption, severity, seed=own + seed)


def settings(job: EvaluationJob) -> dict[str, Any]:
    """The prompts and the corruptions."""
    kinds = f"{', '.join(CORRUPTIONS)} at 1 to 5, on {SIZE_PX} px"
    return {**template_settings(job), "corruption": kinds}


def corruptions_task(job: EvaluationJob) -> TaskResult:
    """Zero-shot accuracy on clean pictures, on each corruption at each severity, and the mean over these."""
    labelled, clean = job.labelled, job.embed(job.labelled)
    labels = labelled.labels[clean.indices]
    rights = {"clean": metrics.is_right(clean.vectors @ job.classes.T, labels)}
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            seen = job.embed(labelled, corruption_transform(corruption, severity, job.seed))
            rights[f"{corruption}_{severity}"] = metrics.is_right(
                seen.vectors @ job.classes.T, labelled.labels[seen.indices]
            )
    corrupted = [right for name, right in rights.items() if name != "clean"]
    numbers = {"clean": rights["clean"], "mean": np.mean(corrupted, axis=0)} | rights
    shares = {name: 100 * float(right.mean(dtype=np.float64)) for name, right in numbers.items()}
    per_item = {"places": clean.indices, "right": rights["clean"]}
    per_item |= {f"{name}_right": right for name, right in numbers.items() if name != "clean"}
    return TaskResult(shares, len(labels), clean.reasons(), {}, per_item)
