"""The weighted mean of the weights of stages of `align.py` that began from one another (Wortsman et al. 2022, "Model
soups", section 3): it is better on photographs than each of them, because what differs is mostly noise.

    python average.py STAGE.pt:WEIGHT STAGE.pt:WEIGHT ... --out FILE.pt
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", metavar="STAGE.pt:WEIGHT")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    stages = [(torch.load(path, map_location="cpu", weights_only=True), float(weight))
              for path, weight in (each.rsplit(":", 1) for each in options.stages)]  # fmt: skip
    torch.save(average(*zip(*stages, strict=True)), options.out)


def average(states: Sequence[Mapping[str, Any]], weights: Sequence[float]) -> dict[str, Any]:
    """The weighted mean of every floating-point tensor; whole numbers are those of the first."""
    first, total = states[0], sum(weights)
    mean: dict[str, Any] = {}
    for name, value in first.items():
        others = [state[name] for state in states]
        if isinstance(value, Mapping):
            mean[name] = average(others, weights)
        elif value.is_floating_point():
            mean[name] = sum(weight / total * each for each, weight in zip(others, weights, strict=True))
        else:
            mean[name] = value
    return mean


if __name__ == "__main__":
    main()
