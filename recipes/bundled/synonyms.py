"""The text tower alone learns synonyms, glosses and one-letter slips, while captions and class names keep theirs.

    python synonyms.py --data SHARDS --captions COCO.txt --minilm FOLDER --init STAGE.pt --out STAGE.pt [--steps 600]

A step takes pairs of texts that mean the same: each must find its other among those of the batch and the 1,000
commonest nouns of the captions, and a cosine holds other texts where they were.
"""

import argparse
import json
import random
import time
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from english import TEMPLATES, English, WordPair, slip
from torch import Tensor, nn
from towers import TextTower, stage_of

from diptych.data.loading.stream import indexed
from diptych.data.sources.opening import open_source

SCALE, HOLD = 20.0, 5.0


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    source = indexed(open_source(options.data))
    captions = [source.captions(row) for row in range(len(source))]
    english = English(captions, options.captions, hold_out=not options.all_pairs)
    tower = TextTower(options.minilm)
    stage = stage_of(options.init, 0) if options.init.is_dir() else torch.load(options.init)
    tower.tower.load_state_dict(stage["text"])
    before = deepcopy(tower)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=options.lr, weight_decay=0.01)
    held = [*english.flat, *english.captions]
    print(json.dumps(right(tower, english)), flush=True)
    began, nouns = time.monotonic(), torch.empty(0)
    for step in range(options.steps):
        rate = options.lr * min(1, (step + 1) / 20) * (1 - step / options.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if step % 20 == 0:
            nouns = tower.encode(english.nouns)
        pairs = english.pairs(options.batch, slips=0.35)
        kept = random.sample(held, 48) + [_named(english) for _ in range(32)]
        with torch.no_grad():
            wanted = before(kept)
        texts = [*(left for left, _, _ in pairs), *(other for _, other, _ in pairs), *kept]
        left, other, found = tower(texts).split((len(pairs), len(pairs), len(kept)))
        agreement = (found * wanted).sum(1).mean()
        loss = pair_loss(left, other, nouns, pairs, english.nouns) + HOLD * (1 - agreement)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 49:
            facts = {"step": step + 1, "loss": round(loss.item(), 3), "agreement": round(agreement.item(), 4)}
            print(json.dumps(facts | right(tower, english) | {"s": round(time.monotonic() - began)}), flush=True)
            torch.save(stage | {"text": tower.tower.state_dict()}, options.out)
    torch.save(stage | {"text": tower.tower.state_dict()}, options.out)


def pair_loss(left: Tensor, other: Tensor, nouns: Tensor, pairs: list[WordPair], names: list[str]) -> Tensor:
    """The contrastive loss of pairs of texts, with `nouns`, the vectors of `names`, as further wrong answers."""
    groups = [group for _, _, group in pairs]
    same = torch.tensor([[bool(one & two) for two in groups] for one in groups]) & ~torch.eye(
        len(pairs), dtype=torch.bool
    )
    logits = (left @ other.T * SCALE).masked_fill(same, -30.0)
    mine = torch.tensor([[name in group for name in names] for group in groups])
    more = (left @ nouns.T * SCALE).masked_fill(mine, -30.0)
    target = torch.arange(len(pairs))
    return (F.cross_entropy(torch.cat([logits, more], 1), target) + F.cross_entropy(logits.T, target)) / 2


def right(tower: TextTower, english: English) -> dict[str, float]:
    """The percentages of synonyms of bench/words.py and of slips whose nearest noun is the right one."""
    nouns = tower.encode(english.nouns)
    near = (tower.encode([each.word for each in english.held_out]) @ nouns.T).argmax(1)
    hits = [english.nouns[at] in each.answers for at, each in zip(near, english.held_out, strict=True)]
    words = random.Random(0).sample(english.nouns, 200)
    near = (tower.encode([slip(word, random.Random(word)) for word in words]) @ nouns.T).argmax(1)
    slips = [english.nouns[at] == word for at, word in zip(near, words, strict=True)]
    return {name: round(100 * sum(each) / len(each), 1) for name, each in (("pairs", hits), ("slips", slips))}


def _named(english: English) -> str:
    return random.choice(TEMPLATES).format(random.choice(english.classes).names[0])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "captions", "minilm", "init", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name, value in (("steps", 600), ("batch", 256), ("seed", 0), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--all-pairs", action="store_true", help="learn the pairs of bench/words.py as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
