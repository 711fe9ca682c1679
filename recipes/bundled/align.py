"""Both heads and the text tower learn from frozen picture features: captions, class prototypes, and English.

    python align.py --features FOLDER --captions COCO.txt --minilm FOLDER --lite FILE.pth --out FILE.pt

The loss of a step is the sum of
- the symmetric cross entropy of photographs, class prototypes and drawn scenes against captions and class names, and of
  each drawn scene against false captions of its own, with another colour or kind of one thing (contrastive),
- the cross entropy of each picture's similarities to the 1,000 class names against the class layer's own answer
  (teacher), for photographs as well, so that names are learnt on real pictures,
- the divergence of the class path's probabilities on photographs from the class layer's answer (classes),
- the contrastive loss of pairs of texts: lemmas of a WordNet synset, a lemma and its gloss, a word and a one-letter
  slip of it (words),
- the cross entropy of captions' similarities to each other against those of MiniLM as released (keep),
- with drawn scenes, the loss of phrases and the patches in their boxes (regions), and the cross entropy of each thing's
  colour among all colours of its kind, by the picture's vector (colours).
"""

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from english import TEMPLATES, English
from pictures import FALSE, ColourQuestion, Pictures, Scenes, colour_questions, coloured, never_drawn
from relevance import NOUNS, naming
from synonyms import pair_loss, right
from torch import Tensor, nn
from towers import FrozenTower, Head, TextTower, UpperTower, class_layer, released_lite, stage_of

from diptych.data.loading.augmentation import mirror_caption
from diptych.data.samples import Region
from diptych.scenes.scene import KINDS
from diptych.text.phrases import phrases_of
from diptych.training.objectives.regions import region_batch, region_loss

KEEP_SCALE = 20.0
KINDS_ASKED = 12  # kinds of things whose colours a step asks for


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    run = Alignment(options)
    if options.init:
        run.load(options.init)
    else:
        run.know_classes()
    print(json.dumps(run.evaluate()), flush=True)
    for epoch in range(options.epochs):
        run.epoch(epoch)
        print(json.dumps({"epoch": epoch + 1, **run.evaluate()}), flush=True)
        run.save(options.out)


class Alignment:
    """The run: pictures, English, the two heads, the text tower, and their optimizer."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.pictures = Pictures(options.features, *class_layer(options.lite), as_maps=options.block > 0)
        self.scenes = Scenes(options.features) if options.scenes else None
        self.english = English(self.pictures.captions, options.captions, hold_out=not options.all_pairs)
        self.text = TextTower(options.minilm, options.dim)
        head = Head(self.pictures.mean, self.pictures.std, options.dim, options.hidden)
        self.image = (
            UpperTower(released_lite(options.lite), options.block, head) if options.block else FrozenTower(head)
        )
        self.text.requires_grad_(options.lr > 0)
        self.scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.teacher_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        tower, heads = self.text.tower_parameters(), [*self.image.new_parameters(), *self.text.proj.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": tower, "peak": options.lr, "weight_decay": 0.01},
                {"params": self.image.released_parameters(), "peak": options.image_lr, "weight_decay": 0.01},
                {"params": heads, "peak": options.head_lr, "weight_decay": 0.05},
                {"params": [self.scale, self.teacher_scale], "peak": 1e-3, "weight_decay": 0.0},
            ]
        )
        self.photos = options.batch - options.prototypes
        pairs = [(row, text) for row, texts in enumerate(self.pictures.captions) for text in texts]
        self.pairs, self.step = pairs, 0
        self.steps = options.epochs * (len(pairs) // self.photos)
        self.original = self._original_vectors()

    def _original_vectors(self) -> dict[str, Tensor]:
        """What MiniLM as released makes of every caption, to keep its similarities; its projection is the identity."""
        texts = [*dict.fromkeys(text for _, text in self.pairs), *self.english.captions]
        cache = self.options.out.with_suffix(".captions.pt")
        vectors = torch.load(cache) if cache.exists() else self.text.encode(texts).half()
        torch.save(vectors, cache)
        return dict(zip(texts, vectors, strict=True))

    def epoch(self, epoch: int) -> None:
        random.shuffle(self.pairs)
        began = time.monotonic()
        for start in range(0, len(self.pairs) - self.photos + 1, self.photos):
            if self.step % 40 == 0:
                self.bank = self.text.encode(
                    [random.choice(TEMPLATES[:2]).format(each.names[0]) for each in self.english.classes]
                )
                self.nouns = self.text.encode(self.english.nouns)
            losses = self.losses(self.pairs[start : start + self.photos])
            self._update(sum(losses.values()))  # type: ignore[arg-type]
            if self.step % 20 == 0:
                shown = " ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
                print(
                    f"{epoch} {self.step}/{self.steps} {shown} {self.scale.exp():.1f} {time.monotonic() - began:.0f} s",
                    flush=True,
                )

    def _update(self, loss: Tensor) -> None:
        warm = min(1.0, (self.step + 1) / 60)
        rate = warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.step / self.steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["peak"]
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.scale.clamp_(max=math.log(100))
        self.step += 1

    def losses(self, pairs: Sequence[tuple[int, str]]) -> dict[str, Tensor]:
        options, pictures = self.options, self.pictures
        rows = torch.tensor([row for row, _ in pairs])
        views = torch.randint(len(pictures.pooled), rows.shape)
        captions = [text for _, text in pairs]
        seen = [mirror_caption(text) if view % 2 else text for text, view in zip(captions, views.tolist(), strict=True)]
        drawn = torch.randperm(1000)[: options.prototypes]
        named = [self.english.name_of(int(each)) for each in drawn]
        words, kept = self.english.pairs(options.words), random.sample(self.english.captions, options.kept)
        inputs, described, boxes = pictures.batch(rows, views), list[str](), list[list[Region]]()
        false: list[list[str]] = []
        kinds = random.sample(range(len(KINDS)), KINDS_ASKED) if self.scenes else []
        if self.scenes:
            maps, described, false, boxes = self.scenes.batch(options.scenes)
            inputs = torch.cat([inputs, maps])
        asked = colour_questions(boxes, kinds)
        boxes += [_unboxed(pictures.captions[row]) for row in rows[: options.phrases].tolist()]
        regions = region_batch(boxes, self.image.grid) if boxes else None
        groups = (
            [self.english.changed(text) for text in seen], [text for text, _ in named], described, kept,
            [left for left, _, _ in words], [right for _, right, _ in words],
            regions.phrases if regions else [], [*chain(*false)], coloured(kinds),
        )  # fmt: skip
        said, names, told, keep, left, right, phrases, denied, colours = self.text([*chain(*groups)]).split(
            [len(group) for group in groups]
        )
        image, patches, known = self.image(inputs, patches_from=len(rows))
        prototypes = pictures.drawn_prototypes(drawn)
        image = torch.cat([image[: len(rows)], self.image.head(prototypes)[0], image[len(rows) :]])
        target, excluded = self._targets(rows, drawn, named, len(described))
        answers = torch.cat([pictures.teacher(pictures.pooled[views, rows]), pictures.teacher(prototypes)])
        losses = {
            "contrast": self._contrast(image, torch.cat([said, names, told]), target, excluded, denied, false),
            "teacher": options.teacher_weight * self._teacher(image[: len(answers)], answers),
            "classes": F.kl_div(known[: len(rows)], answers[: len(rows)], reduction="batchmean"),
            "words": options.words_weight * pair_loss(left, right, self.nouns, words, self.english.nouns),
            "keep": options.keep_weight * self._keep(torch.cat([said, keep]), [*captions, *kept]),
        }
        if asked:
            losses["colours"] = self._colours(image[len(answers) :], colours, asked, kinds)
        if regions:
            pictured = torch.cat([image[len(answers) :], image[: options.phrases]])
            losses["regions"] = options.regions_weight * region_loss(
                pictured, patches, phrases, self.scale.exp(), regions
            )
        return losses

    def _targets(
        self, rows: Tensor, drawn: Tensor, named: Sequence[tuple[str, Tensor]], scenes: int
    ) -> tuple[Tensor, Tensor]:
        """The positives, and pairs of pictures and texts that are neither positive nor a fair negative."""
        photos, real = len(rows), len(rows) + len(drawn)
        target, excluded = torch.eye(real + scenes), torch.zeros(real + scenes, real + scenes, dtype=torch.bool)
        target[:photos, :photos] = (rows[:, None] == rows).float()
        leaves = torch.stack([leaf for _, leaf in named])  # (prototypes, 1000)
        target[photos:real, photos:real] = leaves[:, drawn].T
        shares = self.pictures.posterior[rows]
        excluded[:photos, photos:real] = shares @ leaves.T > 0.03
        excluded[photos:real, :photos] = (shares @ self.english.kin[drawn].T > 0.05).T
        return target, excluded

    def _contrast(
        self, image: Tensor, text: Tensor, target: Tensor, excluded: Tensor, denied: Tensor, false: list[list[str]]
    ) -> Tensor:
        """Symmetric; the last pictures, drawn scenes, also have false captions as negatives of their own."""
        logits = (image @ text.T * self.scale.exp()).masked_fill(excluded, -30.0)
        own = torch.full((len(image), FALSE), -30.0)
        if false:
            near = torch.einsum("id,ifd->if", image[-len(false) :], denied.view(len(false), FALSE, -1))
            missing = torch.tensor([[not text for text in texts] for texts in false])
            own[-len(false) :] = (near * self.scale.exp()).masked_fill(missing, -30.0)
        by_picture = _cross_entropy(torch.cat([logits, own], 1), F.pad(target, (0, FALSE)))
        return (by_picture + _cross_entropy(logits.T, target.T)) / 2

    def _teacher(self, image: Tensor, answers: Tensor) -> Tensor:
        logits = image @ self.bank.T * self.teacher_scale.exp()
        return -(answers * logits.log_softmax(dim=1)).sum(1).mean()

    def _colours(
        self, scenes: Tensor, colours: Tensor, asked: Sequence[ColourQuestion], kinds: Sequence[int]
    ) -> Tensor:
        """The cross entropy of the colour of a scene's only thing of a kind, among all that it may have."""
        at = torch.tensor([kinds.index(each.kind) for each in asked])
        texts = colours.view(len(kinds), -1, colours.shape[1])[at]
        logits = torch.einsum("qd,qcd->qc", scenes[[each.scene for each in asked]], texts) * self.scale.exp()
        target = torch.tensor([each.colour for each in asked])
        return F.cross_entropy(logits.masked_fill(never_drawn(kinds)[at], -30.0), target)

    def _keep(self, text: Tensor, captions: Sequence[str]) -> Tensor:
        original = torch.stack([self.original[each] for each in captions]).float()
        itself = torch.eye(len(captions), dtype=torch.bool)
        wanted = (original @ original.T * KEEP_SCALE).masked_fill(itself, -30.0).softmax(1)
        found = (text @ text.T * KEEP_SCALE).masked_fill(itself, -30.0).log_softmax(1)
        return -(wanted * found).sum(1).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, object]:
        pictures, english = self.pictures, self.english
        self.image.eval()
        parts = [
            torch.from_numpy(pictures.dev[start : start + 100]).float() for start in range(0, len(pictures.dev), 100)
        ]
        image = torch.cat([self.image(part)[0] for part in parts])
        text = self.text.encode([text for texts in pictures.dev_captions for text in texts])
        names = self.class_names()
        confidence, label = pictures.teacher(pictures.dev_pooled).max(1)
        sure = confidence > 0.6
        top = (image @ names.T)[sure].topk(5).indices == label[sure][:, None]
        result: dict[str, object] = {
            **recall(image, text),
            "sure_1": _percent(top[:, 0]),
            "sure_5": _percent(top.any(1)),
        }
        result["prototypes"] = _percent(
            (self.image.head(pictures.mean + pictures.prototypes)[0] @ names.T).argmax(1) == torch.arange(1000)
        )
        named = naming(pictures.dev_captions, NOUNS)
        result["relevance"] = relevance(
            image, self.text.encode(list(named)), torch.from_numpy(np.stack(list(named.values())))
        )
        result |= right(self.text, english)
        self.image.train()
        return result

    def class_names(self) -> Tensor:
        """Unit vectors of the classes' usual names in two templates, (classes, dim)."""
        said = [[template.format(each.names[0]) for each in self.english.classes] for template in TEMPLATES[:2]]
        return F.normalize(torch.stack([self.text.encode(texts) for texts in said]).sum(0), dim=1)

    def know_classes(self) -> None:
        """Start the class path from the released class layer and the names of its classes."""
        self.image.head.know_classes(self.pictures.weight, self.pictures.bias, self.class_names())

    def save(self, path: Path) -> None:
        modules = {"image": self.image.state_dict(), "text": self.text.tower.state_dict()}
        scales = {"scale": self.scale.detach(), "teacher_scale": self.teacher_scale.detach()}
        torch.save(modules | scales, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, path: Path) -> None:
        state = stage_of(path, self.options.block) if path.is_dir() else torch.load(path)
        self.image.load_state_dict(state["image"], strict=False)  # an earlier stage has no upper blocks
        rows = state["text"]["token.weight"]
        if len(rows) > self.text.tower.config.vocab_size:  # an earlier stage had the whole vocabulary
            rows = rows[json.loads((self.options.minilm / "kept.json").read_text())]
        self.text.tower.load_state_dict(state["text"] | {"token.weight": rows})
        self.scale.data.copy_(state["scale"])
        self.teacher_scale.data.copy_(state.get("teacher_scale", self.teacher_scale.data))
        if "head.classes.fc.weight" not in state["image"]:
            self.know_classes()


def _unboxed(captions: Sequence[str]) -> list[Region]:
    """The phrases of a photograph's captions, in random order, as regions without a box."""
    phrases = list(dict.fromkeys(phrases_of(captions)))
    return [Region(phrase, None) for phrase in random.sample(phrases, len(phrases))]


def relevance(image: Tensor, text: Tensor, named: Tensor) -> float:
    """AUC of the mean of a noun's ten best cosines: with the pictures that captions name it for, (nouns, pictures)
    true, against without them."""
    scores = text @ image.T
    present = scores.topk(10).values.mean(1)
    absent = scores.masked_fill(named, -1.0).topk(10).values.mean(1)
    return _percent(present[:, None] > absent)


def recall(image: Tensor, text: Tensor) -> dict[str, list[float]]:
    """R@1, 5, 10 in percent, five texts for each picture."""
    scores, own = text @ image.T, torch.arange(len(text)) // 5
    rank = (scores > scores.gather(1, own[:, None])).sum(1)
    best = torch.stack([scores[own == at, at].max() for at in range(len(image))])
    found = (best[:, None] < scores.T).sum(1)
    return {name: [_percent(each < k) for k in (1, 5, 10)] for name, each in (("t2i", rank), ("i2t", found))}


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target / target.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()


def _percent(hits: Tensor) -> float:
    return round(100 * hits.float().mean().item(), 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("features", "captions", "minilm", "lite", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--all-pairs", action="store_true", help="learn the pairs of bench/words.py as well")
    for name, value in (
        ("epochs", 6),
        ("batch", 256),
        ("prototypes", 64),
        ("words", 96),
        ("kept", 32),
        ("dim", 384),
        ("hidden", 1024),
        ("seed", 0),
        ("threads", 1),
        ("block", 0),
        ("scenes", 0),
        ("phrases", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (
        ("lr", 5e-5),
        ("head-lr", 1e-3),
        ("teacher-weight", 0.5),
        ("words-weight", 0.5),
        ("keep-weight", 0.3),
        ("regions-weight", 1.0),
        ("image-lr", 1e-4),
    ):
        parser.add_argument(f"--{name}", type=float, default=value)
    return parser.parse_args()


if __name__ == "__main__":
    main()
