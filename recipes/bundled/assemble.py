"""A model folder from the released towers and a stage of `align.py`.

    python assemble.py --lite FILE.pth --minilm FOLDER --stage FILE.pt --maps FOLDER --out FOLDER [--mode squash]

Weights are stored as float32. words.txt has the words that were seen with a picture or a class prototype: those of the
captions, of drawn scenes, and of the classes' names and hypernyms.
"""

import argparse
import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from classes import ancestors, read_classes, spaced  # first: it finds bench/
from towers import DIM, of_tower, released_lite, unfolded
from wordnet import FOLDER, read

from diptych.checkpoint import save_folder
from diptych.checkpoint.formats.bert import read_text_tower
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig
from diptych.text.known_words import WORDS_FILE, count_words, words_text

CONTEXT = 77
SHIFT, SCALE = 127 / 255, 128 / 255  # the released networks read (pixel - 127) / 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("lite", "minilm", "stage", "maps", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--block", type=int, default=6, help="the first block that was trained")
    parser.add_argument("--mode", choices=("squash", "crop"), default="squash")
    options = parser.parse_args()
    tower, released = released_lite(options.lite), read_text_tower(options.minilm, context=CONTEXT)
    stage = torch.load(options.stage, map_location="cpu", weights_only=True)
    network = CLIP(CLIPConfig(DIM, tower.config, replace(released.config, proj_bias=True)))
    image = {of_tower(name): tensor for name, tensor in stage["image"].items()}
    if "last.bias" in image:
        image = unfolded(image, tower, options.block)
    network.image.load_state_dict(tower.state_dict() | image)
    # Training reads fewer tokens than the model, whose further positions are the released ones.
    positions = released.state["text.positions"].clone()
    positions[: len(stage["text"]["positions"])] = stage["text"]["positions"]
    network.text.load_state_dict(stage["text"] | {"positions": positions})
    network.logit_scale.data.copy_(stage["scale"])
    spec = Preprocess(tower.config.image_size, mean=(SHIFT,) * 3, std=(SCALE,) * 3, mode=options.mode)
    save_folder(
        options.out, network, tokenizer_json=released.tokenizer_json, preprocess=spec.to_hugging_face(),
        text_preprocessing=released.text_preprocessing, search_files={WORDS_FILE: _words(options.maps).encode()},
    )  # fmt: skip


def _words(maps: Path) -> str:
    """The text of words.txt; the classes' words go first if it would be too long."""
    captions = [
        texts for name in ("train", "scenes") for texts in json.loads((maps / f"{name}.json").read_text())["captions"]
    ]
    net = read(FOLDER)
    names = [
        name
        for each in read_classes(net)
        for name in (
            *each.names,
            *(spaced(lemma) for key in ancestors(net, each.key) for lemma in net.synsets[key].lemmas),
        )
    ]
    return words_text(count_words(chain(*captions)), known=list(count_words(names)))


if __name__ == "__main__":
    main()
