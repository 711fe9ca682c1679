"""A folder of many pictures that takes little disk: few files under many names, with an index of random vectors."""

import os
from pathlib import Path
from typing import Any

import numpy as np

import diptych
from diptych.index.catalog.catalog import Catalog
from diptych.index.local import open_index
from diptych.index.model import BUNDLED
from diptych.media.items import CatalogEntry, Details, FileContents, Part
from diptych.media.scanning.scan import scan
from diptych.scenes.scene import Scenes

SHAPES = ((480, 360), (360, 480), (480, 320), (400, 400), (320, 480), (480, 270))
SCENES = 64


def library(folder: Path, count: int) -> None:
    """A folder of `count` pictures, which are few files under many names, with a catalog of random vectors."""
    for number, scene in enumerate(Scenes(SCENES, size_px=480 if count > 1000 else 96)):
        scene.image.resize(SHAPES[number % len(SHAPES)]).save(folder.parent / f"{number}.jpg", quality=85)
    for number in range(count):
        sub = folder / f"{number // 1000:03}"
        if not number % 1000:
            sub.mkdir(parents=True)
        os.link(folder.parent / f"{number % SCENES}.jpg", sub / f"{number:06}.jpg")
    model = diptych.load()
    path = open_index(folder).catalog_path
    catalog = Catalog.create(path, fingerprint=model.fingerprint, model=BUNDLED, dim=model.dim)
    vectors = random_vectors(count, model.dim).astype(np.float16)
    catalog.put(_entry(*each) for each in zip(sorted(scan(folder)), vectors[:, None], strict=True))
    catalog.close()


def random_vectors(count: int, dim: int) -> np.ndarray:
    """(count, dim), float32, of length 1."""
    vectors = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _entry(file: Any, vector: np.ndarray) -> CatalogEntry:
    width, height = SHAPES[int(Path(file.path).stem) % SCENES % len(SHAPES)]
    digest = file.path.encode().ljust(16, b"\0")[-16:]
    part = Part(pixels=np.zeros((1, 1, 3), np.uint8))
    return CatalogEntry(FileContents(file, digest, Details(width=width, height=height), (part,)), vector)
