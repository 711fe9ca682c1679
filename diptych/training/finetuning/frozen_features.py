"""The features of a locked image tower, or of its locked trunk, made once before the first step (LiT; Zhai et al. 2022,
section 3: a locked tower may be computed beforehand)."""

import hashlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.data.loading.loader import Loader
from diptych.data.loading.plan import MixtureSource, Pick
from diptych.data.loading.threads import Threads
from diptych.data.loading.views import PictureViews, ViewDecoder
from diptych.data.samples import Source, Stream
from diptych.data.spooling import DISK_FULL
from diptych.errors import ArgumentError
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.training.config import TrainConfig
from diptych.training.diagnostics.monitor import Monitor
from diptych.training.finetuning.feature_file import FOLDER, FeatureFile
from diptych.training.finetuning.freezing import POOLING
from diptych.training.finetuning.savings import Savings
from diptych.training.optim.precision import AUTOCAST
from diptych.training.parallel.distributed import ProcessInfo, all_gather_object, barrier, broadcast_object

VERSION = 1  # of the files
BATCH = 32  # views that are encoded together
# What `about.json` says, in words for a message.
CHANGED = {
    "model": "the model", "preprocessing": "the preprocessing", "samples": "the samples", "views": "views",
    "augmentation": "the augmentation", "seed": "seed", "precision": "precision",
}  # fmt: skip


def is_locked(config: TrainConfig) -> bool:
    """Whether something of the image tower is frozen whose output could be stored."""
    return config.lock_image or config.lock_trunk


def reason_against(config: TrainConfig, sources: Sequence[MixtureSource], world_size: int) -> str | None:
    """Why features are not stored but computed each time, as a clause; None if they can be stored."""
    if config.views == 0:
        return "views is 0"
    if config.scenes:
        return "drawn scenes are new each time"
    if config.region_weight:
        return "the region loss needs pixels"
    if config.lock_trunk and config.patch_dropout:
        return "patch_dropout leaves out other patches each time"
    if any(isinstance(member.source, Stream) for member in sources):
        return "a stream's pictures are not known beforehand"
    if config.shard and world_size > 1:
        return "the weights are sharded"
    reads = config.epochs * sum(member.share for member in sources)
    views = config.views * sum(_length(member) for member in sources)
    if config.minutes is None and reads <= views:
        return f"the run reads {reads:,.0f} pictures, and to store them it would encode {views:,}"
    return None


@dataclass
class FeatureMaker:
    """Makes the features of a run. `normalise` turns uint8 pictures into the tower's input, on its device."""

    config: TrainConfig
    network: CLIP
    loader: Loader
    preprocess: Preprocess
    normalise: Callable[[Tensor], Tensor]
    monitor: Monitor
    process: ProcessInfo
    out: Path

    def make(self, is_stopped: Callable[[], bool], *, is_resumed: bool, steps_left: int | None) -> Savings | None:
        """Make the features of every picture, or those that are missing, and have the loader and the network use them.
        Returns None if they are computed each time, which is logged with the reason, or if `is_stopped` becomes true:
        what is made then stays for the next call.

        Every process calls it and makes its part. Raises ArgumentError if the files of a run that `is_resumed` were
        made by another model or of other samples, and DataError if too many pictures are unusable.
        """
        sources = self.loader.sources
        if reason := reason_against(self.config, sources, self.process.world_size):
            return self._give_up(reason)
        file = self._file()
        if reason := broadcast_object(self._claim(file, is_resumed) if self.process.rank == 0 else None):
            return self._give_up(reason, file)
        barrier()
        if not file.folder.exists():
            raise FileNotFoundError(
                f"process {self.process.rank} does not see {file.folder}; put out= where all read it."
            )
        started_s = time.monotonic()
        if reason := self._fill(file, is_stopped):
            return self._give_up(reason, file)
        if any(all_gather_object(is_stopped())):
            made = file.pictures - len(file.missing())
            self.monitor.log(
                f"the features of {made:,} of {file.pictures:,} pictures are made and stay in {file.folder}"
            )
            return None
        self.loader.stored, self.network.image_stage = file.open(_first_rows(sources)), self._stage
        picture_s = file.seconds_per_picture() / self.config.views
        local = -(-self.config.batch_size // self.process.world_size)
        return Savings(picture_s, local, time.monotonic() - started_s, steps_left)

    def remove(self) -> None:
        """Remove the files of a finished run."""
        self.loader.stored = None
        if (self.out / FOLDER).exists():
            FeatureFile(self.out / FOLDER, 0, 0, (), np.dtype("f2")).remove()

    @property
    def _stage(self) -> Any:
        return "trunk" if self.config.lock_trunk else "vector"

    def _give_up(self, reason: str, file: FeatureFile | None = None) -> None:
        self.monitor.log(f"the locked tower's features are computed each time: {reason}")
        if file and self.process.rank == 0:
            file.remove()

    def _file(self) -> FeatureFile:
        size_px, pictures = self.preprocess.size_px, sum(map(_length, self.loader.sources))
        shape = self._encoded(np.zeros((1, size_px, size_px, 3), np.uint8)).shape[1:]
        # A vector is small: exact arithmetic stays exact.
        is_exact = self._stage == "vector" and self.config.precision == "fp32"
        dtype = np.dtype("<f4" if is_exact else "<f2")
        return FeatureFile(self.out / FOLDER, pictures, self.config.views, shape, dtype)

    def _claim(self, file: FeatureFile, is_resumed: bool) -> str | None:
        """Find or create the files. Returns a reason against them if the disk has no room."""
        about = self._about(file)
        difference = file.difference(about)
        if difference == "":
            missing = len(file.missing())
            self.monitor.log(f"{file.folder} has the features of {file.pictures - missing:,} pictures")
            return None
        if difference is not None and is_resumed:
            raise ArgumentError(
                f"the features in {file.folder} do not fit: {CHANGED.get(difference, difference)} changed since they "
                "were made.",
                remedy=[f"Resume with what the run began with, or remove {file.folder} to have them made again."],
            )
        file.remove()
        free = shutil.disk_usage(self.out).free
        # A checkpoint must fit beside them: weights, their average and two moments of the optimizer.
        needed = file.size + 16 * sum(p.numel() for p in self.network.parameters())
        what = f"the features of {file.pictures:,} pictures take {spelled_size(file.size)} in {file.folder}"
        if free < needed:
            return f"{what}, and with a checkpoint {spelled_size(needed)}, and {spelled_size(free)} are free"
        views = f", in {file.views} views" if file.views > 1 else ""
        self.monitor.log(f"{what} ({spelled_size(free)} are free) and are made once{views}")
        try:
            file.claim(about)
        except OSError as error:
            return _full_disk(error, file)
        return None

    def _about(self, file: FeatureFile) -> dict[str, Any]:
        config, sources = self.config, self.loader.sources
        augmented = config.views > 1
        return {
            "version": VERSION,
            "model": fingerprint(self.network, self._stage),
            "preprocessing": self.preprocess.to_hugging_face(),
            "samples": _hash_of_keys([member.source for member in sources]),  # type: ignore[misc]
            "views": config.views,
            "augmentation": [asdict(member.augmentation) for member in sources] if augmented else None,
            "seed": config.seed if augmented else None,
            "precision": config.precision,
            "shape": [*file.shape],
            "dtype": file.dtype.name,
        }

    def _fill(self, file: FeatureFile, is_stopped: Callable[[], bool]) -> str | None:
        """Make this process's part of what is missing. Returns a reason, the same in every process, to give up."""
        self.network.eval()
        rows = np.array_split(file.missing(), self.process.world_size)[self.process.rank]
        known, reason = {*self.loader.bad}, None
        try:
            self._encode(file, rows, is_stopped)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            reason = _full_disk(error, file)
        except OverflowError as error:
            reason = str(error)
        bad = {key: one for key, one in self.loader.bad.items() if key not in known}
        reasons: list[str | None] = []
        barrier()  # the parts may take unlike times
        for other, others_reason in all_gather_object((bad, reason)):
            self.loader.count(0, other)
            reasons.append(others_reason)
        return next(filter(None, reasons), None)

    def _encode(self, file: FeatureFile, rows: np.ndarray, is_stopped: Callable[[], bool]) -> None:
        size = max(1, BATCH // file.views)
        parts = deque(rows[start : start + size] for start in range(0, len(rows), size))
        decoder = ViewDecoder(self.preprocess, file.views, tuple(each.augmentation for each in self.loader.sources))
        waiting: deque[np.ndarray] = deque()
        done, since_s = 0, time.monotonic()
        with Threads(max(self.config.threads, self.config.workers), decoder.read) as threads:
            while (parts or waiting) and not is_stopped():
                while parts and len(waiting) < threads.room:
                    waiting.append(parts.popleft())
                    threads.submit([self._pick(int(row)) for row in waiting[-1]])
                part = waiting.popleft()
                views = threads.result()
                self.loader.count(len(part), views.bad)
                self._store(file, part, views, since_s)
                done, since_s = done + len(part), time.monotonic()
                self.monitor.prepare("features of the locked tower", done, len(rows))

    def _store(self, file: FeatureFile, rows: np.ndarray, views: PictureViews, since_s: float) -> None:
        usable = views.usable
        if not usable.any():
            return
        pixels = views.pixels[usable]
        features = self._encoded(pixels.reshape(-1, *pixels.shape[2:]))
        if not (largest := np.abs(features).max()) <= np.finfo(file.dtype).max:  # or NaN
            raise OverflowError(f"they reach {largest:.3g}, beyond {file.dtype.name}")
        features = features.reshape(*pixels.shape[:2], *file.shape)
        seconds = (time.monotonic() - since_s) / int(usable.sum())
        file.write(rows[usable], features, views.picture_ids[usable], views.mirrored[usable], seconds)

    def _pick(self, row: int) -> Pick:
        first_rows = _first_rows(self.loader.sources)
        part = int(np.searchsorted(first_rows, row, "right")) - 1
        index, source = row - first_rows[part], self.loader.sources[part].source
        return Pick(part, source, index, (self.config.seed, part, index))  # type: ignore[arg-type]

    @torch.no_grad()
    def _encoded(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (pictures, height, width, 3) -> float32 (pictures, ...), with the arithmetic of a step."""
        network, dtype = self.network, AUTOCAST[self.config.precision]
        x = self.normalise(torch.from_numpy(pixels))
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
            encoded = network.image.trunk(x) if self._stage == "trunk" else network.encode_image(x)
        return encoded.float().cpu().numpy()


def fingerprint(network: CLIP, stage: str) -> str:
    """A hash of the frozen weights of the image tower, and of its configuration."""
    digest = hashlib.blake2b(repr((network.config.image, network.config.embed_dim)).encode(), digest_size=16)
    for name, tensor in network.image.state_dict().items():
        if stage == "vector" or name.partition(".")[0] not in POOLING:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def spelled_size(size: float) -> str:
    """A number of bytes in kB, MB or GB."""
    if size < 1e5:
        return f"{size / 1e3:,.0f} kB"
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _length(member: MixtureSource) -> int:
    assert not isinstance(member.source, Stream)
    return len(member.source)


def _first_rows(sources: Sequence[MixtureSource]) -> list[int]:
    return [0, *accumulate(map(_length, sources[:-1]))]


def _hash_of_keys(sources: Sequence[Source]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for source in sources:
        digest.update(f"{len(source)}\n".encode())
        for index in range(len(source)):
            digest.update(f"{source.key(index)}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _full_disk(error: OSError, file: FeatureFile) -> str:
    return f"{spelled_size(file.size)} in {file.folder} could not be written ({error.strerror})"
