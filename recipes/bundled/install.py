"""Puts a model folder with float32 weights into the package, as 8-bit numbers with a scale for each row.

    python install.py MODEL [--into diptych/bundled] [--limit 25]

All files of the model are taken, also those that say which words it has seen and which cosine to expect of a text. The
model card in the package stays; files of the former model that the new one lacks are removed. Prints the size of each
file, and fails without a change if they exceed the limit, in megabytes of a million bytes.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import torch

import diptych

BUNDLED, CARD = Path(__file__).parents[2] / "diptych" / "bundled", "README.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--into", type=Path, default=BUNDLED)
    parser.add_argument("--limit", type=float, default=25.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = diptych.convert(options.model, Path(folder) / "model", dtype=torch.int8)
        card = options.into / CARD
        sizes = {path.name: path.stat().st_size for path in small.iterdir() if path.name != CARD}
        total = sum(sizes.values()) + (card.stat().st_size if card.exists() else 0)
        for name, size in sorted(sizes.items()):
            print(f"{size:12,} {name}")
        print(f"{total:12,} with {CARD}")
        if total > options.limit * 1e6:
            print(f"more than {options.limit:g} MB; nothing was changed", file=sys.stderr)
            return 1
        replace(small, options.into, sizes.keys())
    print(f"{options.into}: fingerprint {diptych.load(options.into, device='cpu').fingerprint}")
    return 0


def replace(small: Path, into: Path, names: Collection[str]) -> None:
    """The files of the new model in place of those of the former one."""
    for former in into.iterdir():
        if former.is_file() and former.name not in (*names, CARD):
            former.unlink()
    for name in names:
        shutil.copyfile(small / name, into / name)


if __name__ == "__main__":
    sys.exit(main())
