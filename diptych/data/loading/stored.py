"""What a frozen tower made of every picture, read by rows instead of decoding pictures."""

from dataclasses import dataclass

import numpy as np

from diptych.errors import DataError


@dataclass(frozen=True)
class StoredFeatures:
    """What a frozen tower made of every view of every picture. The picture with `index` in mixture source `part` is in
    row `first_rows[part] + index` of `features` (pictures, views, ...), which may be mapped from a file, `mirrored`
    (pictures, views), `picture_ids` and `usable` (pictures,)."""

    features: np.ndarray
    mirrored: np.ndarray
    picture_ids: np.ndarray
    usable: np.ndarray
    first_rows: tuple[int, ...]

    def empty(self, count: int) -> np.ndarray:
        """Room for the features of `count` pictures."""
        return np.empty((count, *self.features.shape[2:]), self.features.dtype)

    def row(self, part: int, index: int, key: str) -> int:
        """The row of a picture. Raises DataError, with its key, if the picture could not be used."""
        row = self.first_rows[part] + index
        if not self.usable[row]:
            raise DataError(f"{key} could not be used when its features were made.", "unusable")
        return row
