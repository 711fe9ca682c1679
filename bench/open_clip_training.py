"""open_clip's training program on shards with several captions per picture, for `learning.py`.

- It reads one caption per sample. Its README makes a sample of each caption, so that copies of a picture are negatives
  of each other in a batch. Here each picture is written once (KEY.jpg, KEY.txt with one caption per line), and the
  tokenizer passed to the program chooses a line at each reading.
- Its towers have the sizes of Diptych's. The 49,408 rows of its token table would be larger than the towers: rows that
no
  training caption uses are left out, and the rarest ones if the table exceeded 10 % of all parameters.
- Everything else is the program's: loss, AdamW, schedule, augmentation. The README's call for one process gives batch
size,
  learning rate and weight decay; bf16 (fp32 on a CPU without it) and torch.compile are its fastest flags on a CPU.
"""

import torchvision_operators  # noqa: F401 (before open_clip, which imports torchvision)

# isort: split
import io
import json
import math
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import open_clip
import torch
from open_clip_train import main as program

from diptych.data.sources.opening import Source, all_captions
from diptych.training.optim.precision import has_bfloat16

PRECISION = "amp_bf16" if has_bfloat16(torch.device("cpu")) else "fp32"
RECIPE = ("--lr=1e-3", "--wd=0.1", f"--precision={PRECISION}", "--workers=1", "--device=cpu", "--save-frequency=0")
WARMUP = 0.05  # of all steps


class Tokenizer:
    """open_clip's, with a row for each of the `most` frequent tokens of some captions; all others share row 1. Of a
    text with several captions, one a line, it takes one."""

    def __init__(self, captions: list[str], context: int, most: int):
        self.whole = open_clip.SimpleTokenizer(context_length=context)
        counts = self.whole(captions).flatten().bincount()
        used = counts.topk(min(most, int(counts.count_nonzero()))).indices.sort().values
        numbers = torch.arange(len(used))
        self.rows = torch.ones(self.whole.vocab_size, dtype=torch.long)
        self.rows[used] = numbers + (numbers > 0)  # 0, which pads, stays 0, and the end of a text stays the highest
        self.count = len(used) + 1

    def __call__(self, texts: str | list[str]) -> torch.Tensor:
        return self.rows[self.whole(random.choice(texts.splitlines()) if isinstance(texts, str) else texts)]


class Peer:
    """open_clip's program, for the pairs of a source, with towers of the sizes in `towers` (a CLIPConfig as a dict)."""

    def __init__(self, source: Source, towers: dict[str, Any], parameters: int, scratch: Path):
        """ValueError where the towers have not `parameters` within 10 %."""
        self.count, self.scratch, self.shards = len(source), scratch, convert(source, scratch)
        text = towers["text"]
        most = text["vocab_size"] + int(0.09 * parameters / text["width"])
        self.tokenizer = Tokenizer(list(all_captions(source)), text["context"], most)
        config = same_sizes(towers, self.tokenizer.count)
        self.parameters = sum(weight.numel() for weight in open_clip.CLIP(**config).parameters())
        if abs(self.parameters / parameters - 1) > 0.1:
            raise ValueError(f"open_clip's towers have {self.parameters:,} parameters, ours {parameters:,}: over 10 %.")
        self.name = (
            "same-size-vit" if "patch_size" in towers["image"] else "same-size-resnet"
        )  # sets the program's betas
        (scratch / f"{self.name}.json").write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(scratch / f"{self.name}.json")

    def train(self, run: str, *flags: str, epochs: int, pictures: int, batch_size: int = 128) -> "Trained":
        """Call the program for `epochs` of `pictures` pictures."""
        steps = math.ceil(pictures / batch_size)
        command = [
            f"--train-data={self.shards}", "--dataset-type=webdataset", f"--train-num-samples={pictures}",
            f"--model={self.name}", f"--batch-size={batch_size}", f"--epochs={epochs}",
            f"--warmup={math.ceil(WARMUP * epochs * steps)}", *RECIPE, *flags,
            f"--logs={self.scratch}", f"--name={run}",
        ]  # fmt: skip
        one_epoch, seconds = program.train_one_epoch, []

        def timed(*given: Any, **named: Any) -> None:
            started_s = time.monotonic()
            one_epoch(*given, **named)
            seconds.append(time.monotonic() - started_s)

        with (
            patch.object(program, "train_one_epoch", timed),
            patch.object(program, "get_tokenizer", lambda *given, **named: self.tokenizer),
        ):
            program.main(command)
        weights = self.scratch / run / "checkpoints" / f"epoch_{epochs}.pt"
        return Trained(" ".join(command), seconds, epochs * steps * batch_size, weights)

    def encoders(self, weights: Path) -> tuple[Callable[[list], np.ndarray], Callable[[list], np.ndarray]]:
        """Pictures to unit vectors and sentences to unit vectors, in float32, with the program's own preprocessing."""
        network, _, preprocess = open_clip.create_model_and_transforms(self.name, str(weights))
        network.eval()

        @torch.inference_mode()
        def in_parts(encode: Callable, items: list, prepare: Callable) -> np.ndarray:
            parts = (prepare(items[start : start + 250]) for start in range(0, len(items), 250))
            return torch.cat([encode(part, normalize=True) for part in parts]).numpy()

        return (
            lambda images: in_parts(network.encode_image, images, lambda part: torch.stack([*map(preprocess, part)])),
            lambda texts: in_parts(network.encode_text, texts, self.tokenizer),
        )


class Trained(NamedTuple):
    """How the program was called, the seconds of each epoch, the pictures of all, and where the weights are."""

    command: str
    seconds: list[float]
    pictures: int
    weights: Path


def same_sizes(towers: dict[str, Any], rows: int) -> dict[str, Any]:
    """The sizes of a CLIPConfig in open_clip's words."""
    image, text = towers["image"], towers["text"]
    names = ("image_size", "layers", "width", "patch_size")
    channels = image["width"] if "patch_size" in image else 32 * image["width"]  # a ResNet's heads are in its pooling
    vision = {name: image[name] for name in names if name in image} | {"head_width": channels // image["heads"]}
    words = {
        "context_length": text["context"],
        "vocab_size": rows,
        **{n: text[n] for n in ("width", "heads", "layers")},
    }
    return {"embed_dim": towers["embed_dim"], "vision_cfg": vision, "text_cfg": words}


def convert(source: Source, scratch: Path) -> str:
    """The same pairs in shards as the program reads them, in its spelling for several."""
    count = math.ceil(len(source) / 1000)
    for shard in range(count):
        with tarfile.open(scratch / f"{shard:04d}.tar", "w") as tar:
            for index in range(shard, len(source), count):
                picture, captions, _ = source[index]
                assert isinstance(picture, bytes)
                for ending, content in (("jpg", picture), ("txt", "\n".join(captions).encode())):
                    entry = tarfile.TarInfo(f"{index:08d}.{ending}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return f"{scratch}/{{0000..{count - 1:04d}}}.tar"
