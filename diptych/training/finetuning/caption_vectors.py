"""The vectors of captions under a locked text tower: each distinct caption is encoded once and kept."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diptych.nets.clip import CLIP

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MAX_BYTES = 1 << 30  # of kept vectors; beyond it those that were not read for longest are dropped
BATCH = 256


class CaptionVectors:
    """Raw text features of captions, on the device. Captions that augmentation changed are encoded when they come."""

    def __init__(self, network: CLIP, autocast: torch.dtype | None, *, max_bytes: int = MAX_BYTES):
        """`network`'s text tower must be locked."""
        self._network, self._autocast, self._max_bytes = network, autocast, max_bytes
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._encoded, self._read, self._encoding_s = 0, 0, 0.0

    def __call__(self, captions: Sequence[str], ids: Int[Tensor, "texts tokens"]) -> Float[Tensor, "texts dim"]:
        """The features of `captions`, whose tokens are `ids`, in float32."""
        rows = {caption: row for row, caption in enumerate(captions)}
        new = {caption: row for caption, row in rows.items() if caption not in self._kept}
        self._read += len(captions) - len(new)
        self._encode(new, ids)
        for caption in rows:
            self._kept.move_to_end(caption)
        features = torch.from_numpy(np.stack([self._kept[caption] for caption in captions])).to(ids.device)
        self._drop_oldest()
        return features

    def summary(self) -> str | None:
        """A sentence on the captions so far; None without any."""
        if not self._encoded:
            return None
        total, saved_s = self._encoded + self._read, self._read * self._encoding_s / self._encoded
        return (
            f"the locked text tower encoded {self._encoded:,} of {total:,} captions and the others were kept: about "
            f"{saved_s:,.0f} s saved"
        )

    @torch.no_grad()
    def _encode(self, new: dict[str, int], ids: Tensor) -> None:
        started_s, captions = time.monotonic(), [*new]
        for start in range(0, len(captions), BATCH):
            part = captions[start : start + BATCH]
            with torch.autocast(ids.device.type, self._autocast, enabled=self._autocast is not None):
                features = self._network.encode_text(ids[[new[caption] for caption in part]])
            self._kept.update(zip(part, features.float().cpu().numpy(), strict=True))
        self._encoded += len(new)
        self._encoding_s += time.monotonic() - started_s

    def _drop_oldest(self) -> None:
        while self._kept and len(self._kept) * next(iter(self._kept.values())).nbytes > self._max_bytes:
            self._kept.popitem(last=False)
