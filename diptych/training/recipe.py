"""What a training run is told, whole: one dataclass, and the recipes that fill it."""

import dataclasses
import difflib
import json
import math
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from diptych.data.augment import Augmentation

# Each number's least value, and the one that it stays under.
RANGES = {
    "epochs": (0, math.inf), "batch_size": (2, math.inf), "captions_per_image": (1, math.inf), "lr": (0, math.inf),
    "eval_every": (1, math.inf), "threads": (1, math.inf), "workers": (0, math.inf), "seed": (0, math.inf),
    "weight_decay": (0, math.inf), "warmup": (0, 1), "ema": (0, 1), "drop_path": (0, 1), "dropout": (0, 1),
    "patch_dropout": (0, 1), "scenes": (0, 1), "max_bad": (0, 1.001), "accumulate": (1, math.inf),
    "muon_lr": (0, math.inf), "muon_momentum": (0, 1), "lora": (0, math.inf), "layer_decay": (0, 1.001),
    "checkpoint_s": (0, math.inf),
}  # fmt: skip
POSITIVE = ("minutes", "clip_norm", "eps", "samples_per_epoch", "lora_alpha", "image_size")
FINE_TUNING = ("lora", "lock_image", "zero_shot", "wise_ft")  # what nothing but a model that exists can be given
PRECISIONS = ("bf16", "fp16", "fp32")


@dataclass(frozen=True)
class TrainConfig:
    """A run, whole. Lengths are given in `epochs`, or in `minutes` of wall-clock, which then also paces the schedule.

    Data: `data` are sources as `open_source` reads them, mixed by `weights` (by default by their size); the columns
    are those of tables. `samples_per_epoch` is the length of an epoch where a source does not know its own. `scenes`
    is the share of drawn scenes in each epoch. `captions_per_image` captions of each picture are read at every step,
    all of them positives (the text tower is cheap beside the image tower, and each caption is one more negative for
    everyone else). More than a share `max_bad` of unusable samples stops the run. `threads` decode pictures, or
    `workers` processes where there are any.

    Model: `init` starts from a model in place of `model`'s random weights: its tokenizer and its preprocessing come
    with it, at this run's `image_size`. `tokenizer` is a tokenizer.json (or a model folder with one) to use in place
    of one of `vocab_size` learnt from the captions. `loss` is by default the architecture's own.

    Learning: `optimizer` is AdamW with `lr` for all weights, or Muon with `muon_lr` for the matrices between hidden
    spaces and AdamW for the rest. `batch_size` counts the pictures of all processes together; each computes its part
    in `accumulate` pieces, at the same gradient. `warmup` is a share of the run. `ema` averages the weights over about
    1 / (1 - ema) steps; the average is what is evaluated and saved; 0 does without. `patch_dropout` is FLIP's share of
    patches left out.

    Fine-tuning: `lock_image` keeps the image tower as it is (LiT), `freeze_batch_norm` its statistics; `lora` is the
    rank of low-rank adapters, 0 for none, with `lora_alpha` / `lora` as their scale; `layer_decay` multiplies the
    learning rate once for every layer below the top; `wise_ft` is the share of the new weights in the saved model, of
    which the rest are the old ones; `zero_shot` are class folders to measure before and after.

    Running: `precision` is by default bf16 where the device has it, else fp32. `shard` splits weights over the
    processes (FSDP2) where one device does not hold them. A checkpoint is written every `checkpoint_s` seconds. `out`
    is the run's folder, by default the first free one of runs/1, runs/2, .... One with a run in it is refused, unless
    it is to be resumed.
    """

    data: tuple[str, ...]
    val: str | None = None
    out: str | None = None
    weights: tuple[float, ...] | None = None
    image_column: str | None = None
    caption_column: str | None = None
    samples_per_epoch: int | None = None
    max_bad: float = 0.1
    scenes: float = 0.0
    captions_per_image: int = 2
    augmentation: Augmentation = field(default_factory=Augmentation)

    model: str = "resnet-small"
    init: str | None = None
    tokenizer: str | None = None
    loss: Literal["softmax", "sigmoid"] | None = None
    image_size: int | None = None
    vocab_size: int = 4096
    context: int = 40

    epochs: float = 30
    minutes: float | None = None
    batch_size: int = 256
    accumulate: int = 1
    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = 1e-3
    muon_lr: float = 0.02
    muon_momentum: float = 0.95
    warmup: float = 0.05
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    clip_norm: float = 1.0
    ema: float = 0.998
    drop_path: float = 0.1
    dropout: float = 0.15
    patch_dropout: float = 0.0

    lock_image: bool = False
    freeze_batch_norm: bool = False
    lora: int = 0
    lora_alpha: float = 16.0
    layer_decay: float = 1.0
    wise_ft: float | None = None
    zero_shot: tuple[str, ...] = ()

    precision: Literal["bf16", "fp16", "fp32"] | None = None
    compile: bool = False
    gradient_checkpointing: bool = False
    shard: bool = False
    device: str | None = None
    threads: int = 2
    workers: int = 0
    seed: int = 0
    eval_every: int = 5
    checkpoint_s: float = 120.0

    def __post_init__(self) -> None:
        if isinstance(self.data, str):
            object.__setattr__(self, "data", (self.data,))  # the usual slip; the class is frozen for everybody else
        if not self.data:
            raise ValueError(f"data is {self.data!r}; wanted a tuple with one or more folders of pairs, or shards.")
        for name, (least, below) in RANGES.items():
            if not least <= getattr(self, name) < below:
                end = "" if below == math.inf else f" and under {below}"
                raise ValueError(f"{name} is {getattr(self, name)}; wanted {least} or more{end}.")
        for name in POSITIVE:
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name} is {value}; wanted more than 0.")
        if self.precision not in (None, *PRECISIONS):
            raise ValueError(f"precision {self.precision!r} is not known; choose {', '.join(PRECISIONS)}.")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"optimizer {self.optimizer!r} is not known; choose muon or adamw.")
        if self.shard and self.optimizer == "muon":
            raise ValueError("shard splits matrices that muon needs whole; pass optimizer='adamw'.")
        if self.shard and self.precision == "fp16":
            raise ValueError("shard does not train in fp16; pass precision='bf16'.")
        self._check_weights()
        self._check_fine_tuning()

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        if len(self.weights) != len(self.data):
            raise ValueError(f"{len(self.weights)} weights for {len(self.data)} sources; give each source one.")
        if min(self.weights) <= 0:
            raise ValueError(f"weights are {self.weights}; wanted numbers over 0. Leave a source out instead.")

    def _check_fine_tuning(self) -> None:
        if self.wise_ft is not None and not 0 <= self.wise_ft <= 1:
            raise ValueError(f"wise_ft is {self.wise_ft}; wanted 0 (the old weights) to 1 (the new ones).")
        wanting = [name for name in FINE_TUNING if getattr(self, name) not in (None, 0, False, ())]
        if wanting and not self.init:
            raise ValueError(f"{wanting[0]} is for a model that exists; pass init= with its folder or name.")


def from_fields(fields: dict[str, Any]) -> TrainConfig:
    """A configuration from plain values, such as JSON has. ValueError names a key that is none of ours."""
    fields = dict(fields)
    if isinstance(fields.get("augmentation"), dict):
        fields["augmentation"] = _made(Augmentation, fields["augmentation"], "augmentation.")
    return _made(TrainConfig, fields)


def _made(kind: type, fields: dict[str, Any], where: str = "") -> Any:
    known = {each.name for each in dataclasses.fields(kind)}
    for name in fields:
        if name not in known:
            raise _unknown(name, known, where)
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def _unknown(name: str, known: Iterable[str], where: str = "") -> ValueError:
    """What to say of a name that is no setting: the one that was meant, or all that there are."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {where}{near[0]}?" if near else f"there are {', '.join(sorted(known))}."
    return ValueError(f"{where}{name} is no setting of a run; {hint}")


def to_json(config: TrainConfig) -> str:
    """The configuration as JSON, which `from_fields(json.loads(...))` reads."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def parse_setting(text: str) -> tuple[str, Any]:
    """ "lr=0.01" -> ("lr", 0.01), by the type that the field has; "augmentation.flip=0" reaches into the augmentation.

    Raises ValueError for a name that is no setting, and for a value that does not fit.
    """
    name, equals, value = text.partition("=")
    kind, leaf = (Augmentation, name.partition(".")[2]) if name.startswith("augmentation.") else (TrainConfig, name)
    hints = typing.get_type_hints(kind)
    if not equals:
        raise ValueError(f"{text!r} sets nothing; wanted NAME=VALUE.")
    if hints.get(leaf) is Augmentation:
        raise ValueError("augmentation is set by its parts, such as augmentation.flip=0.")
    if leaf not in hints:
        raise _unknown(leaf, hints, name.removesuffix(leaf))
    try:
        return name, _parsed(value, hints[leaf])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{name} cannot be {value!r}; wanted {_spelt(hints[leaf])}.") from error


def _parsed(value: str, hint: Any) -> Any:
    """`value` as the first of the hint's types that takes it."""
    kinds: list[Any] = [] if typing.get_origin(hint) is Literal else [*typing.get_args(hint)]
    if value.lower() == "none" and type(None) in kinds:
        return None
    if typing.get_origin(hint) is tuple:
        values = tuple(_parsed(part, kinds[0]) for part in value.split(",") if part)
        if ... not in kinds and len(values) != len(kinds):
            raise ValueError
        return values
    if kinds:  # a union with None
        return _parsed(value, next(kind for kind in kinds if kind is not type(None)))
    if hint is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
    return hint(value) if hint in (int, float, str) else value


def _spelt(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")


def chance_loss(config: TrainConfig, loss: Literal["softmax", "sigmoid"] = "softmax") -> float:
    """The loss of a model that guesses, as well as one can without looking.

    Softmax: the mean of ln(texts) and ln(pictures) in a batch. Sigmoid: every pair gets the share of pairs that are
    right, q = 1 / pictures, so a picture costs -texts (q ln q + (1 - q) ln(1 - q)), about ln(pictures) + 1 a caption.
    """
    pictures, captions = config.batch_size, config.captions_per_image
    if loss == "softmax":
        return math.log(pictures) + math.log(captions) / 2
    return captions * (math.log(pictures) - (pictures - 1) * math.log1p(-1 / pictures))


def learning_rate(progress: float, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017, equation 5). `progress`: 0 to 1."""
    if progress < config.warmup:
        return config.lr * progress / config.warmup
    done = min(1.0, (progress - config.warmup) / max(1e-9, 1 - config.warmup))
    return config.lr * (1 + math.cos(math.pi * done)) / 2
