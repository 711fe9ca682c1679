"""Views of pictures for a frozen tower, which encodes each of them once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diptych.data.loading.augmentation import Augmentation, augment_picture
from diptych.data.loading.decoding import BadSample, failure_of, picture_id, picture_of
from diptych.data.loading.plan import Pick
from diptych.errors import DataError, ImageError
from diptych.media.preprocessing import Preprocess, resized_and_cropped


class PictureViews(NamedTuple):
    """Views of some pictures, those of an unusable one undefined: `pixels` (pictures, views, size, size, 3) uint8,
    whether each view is `mirrored` (pictures, views), a hash of each picture's bytes, whether it is `usable`, and the
    unusable samples by key."""

    pixels: np.ndarray
    mirrored: np.ndarray
    picture_ids: np.ndarray
    usable: np.ndarray
    bad: dict[str, BadSample]


@dataclass(frozen=True)
class ViewDecoder:
    """Decodes picks into `views` of each picture: the first as in inference, the others augmented by
    `augmentations`[number of the mixture source], with numbers drawn from the pick's seed and the view."""

    spec: Preprocess
    views: int
    augmentations: tuple[Augmentation, ...]

    def read(self, picks: Sequence[Pick]) -> PictureViews:
        """The views of the picks. An unusable sample is reported and not replaced."""
        count, size_px = len(picks), self.spec.size_px
        pixels = np.zeros((count, self.views, size_px, size_px, 3), np.uint8)
        mirrored, usable = np.zeros((count, self.views), bool), np.zeros(count, bool)
        ids, bad = np.zeros(count, np.int64), dict[str, BadSample]()
        for row, pick in enumerate(picks):
            try:
                ids[row] = self._read(pick, pixels[row], mirrored[row])
                usable[row] = True
            except (ImageError, DataError, OSError) as error:
                bad.setdefault(*failure_of(pick.source.key(pick.index), error))
        return PictureViews(pixels, mirrored, ids, usable, bad)

    def _read(self, pick: Pick, pixels: np.ndarray, mirrored: np.ndarray) -> int:
        sample = pick.source[pick.index]
        picture = picture_of(sample, self.spec.size_px)
        pixels[0] = resized_and_cropped(picture, self.spec)
        for view in range(1, self.views):
            rng = np.random.default_rng((*pick.seed, view))
            pixels[view], _, mirrored[view] = augment_picture(
                picture, self.spec.size_px, self.augmentations[pick.part], rng
            )
        return picture_id(sample)
