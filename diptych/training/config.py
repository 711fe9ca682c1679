"""What a training run is told, whole: one dataclass, and the recipes that fill it."""

import dataclasses
import difflib
import json
import math
import numbers
import os
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, Union

from diptych.data.loading.augmentation import Augmentation
from diptych.errors import ArgumentError, Setting

# Each number's least value, and the one that it stays under.
RANGES = {
    "epochs": (0, math.inf), "batch_size": (2, math.inf), "captions_per_image": (1, math.inf), "lr": (0, math.inf),
    "eval_every": (1, math.inf), "threads": (1, math.inf), "workers": (0, math.inf), "seed": (0, math.inf),
    "weight_decay": (0, math.inf), "warmup": (0, 1), "ema": (0, 1), "drop_path": (0, 1), "dropout": (0, 1),
    "patch_dropout": (0, 1), "scenes": (0, 1), "places": (0, math.inf), "max_bad": (0, 1.001),
    "accumulate": (1, math.inf),
    "muon_lr": (0, math.inf), "muon_momentum": (0, 1), "lora": (0, math.inf), "layer_decay": (0, 1.001),
    "checkpoint_s": (0, math.inf),
}  # fmt: skip
POSITIVE = ("minutes", "clip_norm", "eps", "samples_per_epoch", "lora_alpha", "image_size", "stride")
FROM_MODEL = ("model", "tokenizer", "loss", "vocab_size", "context")  # what comes with `init`
FINE_TUNING = ("lora", "lock_image", "zero_shot", "wise_ft")  # what nothing but a model that exists can be given


@dataclass(frozen=True)
class TrainConfig:
    """A run, whole. Lengths are given in `epochs`, or in `minutes` of wall-clock, which then also paces the schedule.

    Data: `data` are sources as `open_source` reads them, mixed by `weights` (by default by their size); the columns are
    those of tables, whose pictures may lie elsewhere with `allow_outside`. `samples_per_epoch` is the length of an
    epoch where a source does not know its own. `scenes` is the share of drawn scenes in each epoch, and `places` the
    weight of the loss that has their regions found (see `training.places`). `captions_per_image` captions of each
    picture are read at every step, all of them positives (the text tower is cheap beside the image tower, and each
    caption is one more negative for everyone else). More than a share `max_bad` of unusable samples stops the run.
    `threads` decode pictures, or `workers` processes where there are any.

    Model: `init` starts from a model in place of `model`'s random weights: its tokenizer, loss and preprocessing come
    with it, at this run's `image_size` and a ResNet's `stride`; `activation` is that of a bare state dict, which does
    not name it.
    `tokenizer` is a tokenizer.json (or a model folder with one) to use in place of one of `vocab_size` learnt from the
    captions. `loss` is by default the architecture's own.

    Learning: `optimizer` is AdamW with `lr` for all weights, or Muon with `muon_lr` for the matrices between hidden
    spaces and AdamW for the rest. `batch_size` counts the pictures of all processes together; each computes its part
    in `accumulate` pieces, at the same gradient. `warmup` is a share of the run. `ema` averages the weights over about
    1 / (1 - ema) steps; the average is what is evaluated and saved; 0 does without. `patch_dropout` is FLIP's share of
    patches left out.

    Fine-tuning: `lock_image` keeps the image tower as it is (LiT), `freeze_batch_norm` its statistics; `lora` is the
    rank of low-rank adapters, 0 for none, with `lora_alpha` / `lora` as their scale; `layer_decay` multiplies the
    learning rate once for every layer below the top; `wise_ft` is the share of the new weights in the saved model, of
    which the rest are the old ones; `zero_shot` are class folders to measure before and after.

    Running: `precision` is that of the towers and, in bf16, of Muon's products (else these are float32): by default
    bf16 where the device has it, else fp32; a run that is resumed on another device keeps its own. `shard` splits
    weights over the processes (FSDP2) where one device does not hold them. A checkpoint is written every `checkpoint_s`
    seconds. `out` is the run's folder, by default the first free one of runs/1, runs/2, .... One with a run in it is
    refused, unless it is to be resumed.
    """

    data: tuple[str, ...]
    val: str | None = None
    out: str | None = None
    weights: tuple[float, ...] | None = None
    image_column: str | None = None
    caption_column: str | None = None
    allow_outside: bool = False
    samples_per_epoch: int | None = None
    max_bad: float = 0.1
    scenes: float = 0.0
    places: float = 0.0
    captions_per_image: int = 2
    augmentation: Augmentation = field(default_factory=Augmentation)

    model: str = "resnet-small"
    init: str | None = None
    activation: Literal["gelu", "quick_gelu"] | None = None
    tokenizer: str | None = None
    loss: Literal["softmax", "sigmoid"] | None = None
    image_size: int | None = None
    stride: int | None = None
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
        # The usual slips: one source, a list, a Path. The class is frozen for everybody else.
        if isinstance(self.data, str | os.PathLike):
            object.__setattr__(self, "data", (self.data,))
        for each in dataclasses.fields(self):
            object.__setattr__(self, each.name, _plain(getattr(self, each.name)))
        _check_types(self)
        if not self.data:
            raise ArgumentError(f"data is {self.data!r}; wanted a tuple with one or more folders of pairs, or shards.")
        for name, (least, below) in RANGES.items():
            if not least <= getattr(self, name) < below:
                end = "" if below == math.inf else f" and under {below}"
                raise _wrong(name, f"is {getattr(self, name)}; wanted {least} or more{end}.")
        for name in POSITIVE:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise _wrong(name, f"is {value}; wanted more than 0.")
        if self.shard and self.optimizer == "muon":
            raise ArgumentError(
                [Setting("shard", True), " splits matrices that muon needs whole."],
                remedy=["Pass ", Setting("optimizer", "adamw"), "."],
                argument="shard",
            )
        if self.places and self.accumulate > 1:
            raise ArgumentError(
                "places are told apart in a whole batch.",
                remedy=["Pass ", Setting("accumulate", 1), "."],
                argument="accumulate",
            )
        if self.shard and self.precision == "fp16":
            raise ArgumentError(
                [Setting("shard", True), " does not train in fp16."],
                remedy=["Pass ", Setting("precision", "bf16"), "."],
                argument="shard",
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ArgumentError(f"betas are {self.betas}; wanted two numbers from 0 to under 1.")
        self._check_weights()
        self._check_fine_tuning()

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        if len(self.weights) != len(self.data):
            raise ArgumentError(f"{len(self.weights)} weights for {len(self.data)} sources; give each source one.")
        if not all(weight > 0 for weight in self.weights):
            raise ArgumentError(f"weights are {self.weights}; wanted numbers over 0. Leave a source out instead.")

    def _check_fine_tuning(self) -> None:
        if self.wise_ft is not None and not 0 <= self.wise_ft <= 1:
            raise _wrong("wise_ft", f"is {self.wise_ft}; wanted 0 (the old weights) to 1 (the new ones).")
        wanting = [name for name in FINE_TUNING if getattr(self, name) not in (None, 0, False, ())]
        if wanting and not self.init:
            raise ArgumentError(
                [Setting(wanting[0]), " is for a model that exists."],
                remedy=["Pass ", Setting("init", "MODEL"), "."],
                argument=wanting[0],
            )
        if self.init and (clash := [name for name in FROM_MODEL if getattr(self, name) != getattr(TrainConfig, name)]):
            raise _wrong(clash[0], "comes with the model that it begins with; leave it out.")
        if self.activation and not self.init:
            raise ArgumentError(
                [Setting("activation"), " is that of the weights that training begins with."],
                remedy=["Leave it out, or pass ", Setting("init", "MODEL"), "."],
                argument="activation",
            )


def _wrong(name: str, what: str) -> ArgumentError:
    return ArgumentError([Setting(name), f" {what}"], argument=name)


def _plain(value: Any) -> Any:
    """Lists as tuples, paths as text, and any library's numbers as Python's: what JSON can hold."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _check_types(config: TrainConfig) -> None:
    for name, hint in typing.get_type_hints(TrainConfig).items():
        if _fits(value := getattr(config, name), hint):
            continue
        choices = [choice for kind in (hint, *typing.get_args(hint)) for choice in _choices(kind)]
        if choices:
            raise _wrong(name, f"{value!r} is not known; choose {', '.join(choices)}.")
        raise _wrong(name, f"is {value!r}; wanted {_spelt(hint)}.")


def _choices(hint: Any) -> tuple[str, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type; whole numbers are numbers, True and False are none."""
    kinds, origin = typing.get_args(hint), typing.get_origin(hint)
    if origin is Literal:
        return value in kinds
    if origin in (Union, UnionType):
        return any(_fits(value, kind) for kind in kinds)
    if origin is tuple:
        wanted = [kinds[0]] * len(value) if isinstance(value, tuple) and ... in kinds else kinds
        return isinstance(value, tuple) and len(value) == len(wanted) and all(map(_fits, value, wanted))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


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


def _unknown(name: str, known: Iterable[str], where: str = "") -> ArgumentError:
    """What to say of a name that is no setting: the one that was meant, or all that there are."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {where}{near[0]}?" if near else f"there are {', '.join(sorted(known))}."
    return ArgumentError(f"{where}{name} is no setting of a run; {hint}")


def to_fields(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain values, which `from_fields` reads; without what came with `init`'s model."""
    fields = dataclasses.asdict(config)
    return {name: value for name, value in fields.items() if not (config.init and name in FROM_MODEL)}


def to_json(config: TrainConfig) -> str:
    """The configuration as JSON, which `from_fields(json.loads(...))` reads."""
    return json.dumps(to_fields(config), indent=2) + "\n"


def parse_setting(text: str) -> tuple[str, Any]:
    """ "lr=0.01" -> ("lr", 0.01), by the type that the field has; "augmentation.flip=0" reaches into the augmentation.

    Raises ValueError for a name that is no setting, and for a value that does not fit.
    """
    name, equals, value = text.partition("=")
    kind, leaf = (Augmentation, name.partition(".")[2]) if name.startswith("augmentation.") else (TrainConfig, name)
    hints = typing.get_type_hints(kind)
    if not equals:
        raise ArgumentError(f"{text!r} sets nothing; wanted NAME=VALUE.")
    if hints.get(leaf) is Augmentation:
        raise ArgumentError("augmentation is set by its parts, such as augmentation.flip=0.")
    if leaf not in hints:
        raise _unknown(leaf, hints, name.removesuffix(leaf))
    try:
        return name, _parsed(value, hints[leaf])
    except (ValueError, TypeError, KeyError) as error:
        raise ArgumentError(f"{name} cannot be {value!r}; wanted {_spelt(hints[leaf])}.") from error


def _parsed(value: str, hint: Any) -> Any:
    """`value` as the first of the hint's types that takes it."""
    kinds: list[Any] = [] if _choices(hint) else [*typing.get_args(hint)]
    if value.lower() == "none" and NoneType in kinds:
        return None
    if typing.get_origin(hint) is tuple:
        values = tuple(_parsed(part, kinds[0]) for part in value.split(",") if part)
        if ... not in kinds and len(values) != len(kinds):
            raise ValueError
        return values
    if kinds:  # a union with None
        return _parsed(value, next(kind for kind in kinds if kind is not NoneType))
    if hint is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
    return hint(value) if hint in (int, float, str) else value


def _spelt(hint: Any) -> str:
    return str(hint).replace("typing.", "") if typing.get_args(hint) else hint.__name__


def schedule(progress: float, warmup: float) -> float:
    """The share of its peak that a learning rate has: linear warm-up, then half a cosine down to zero (Loshchilov and
    Hutter 2017, equation 5). `progress` and `warmup` are shares of the run, 0 to 1."""
    if progress < warmup:
        return progress / warmup
    done = min(1.0, (progress - warmup) / max(1e-9, 1 - warmup))
    return (1 + math.cos(math.pi * done)) / 2


def peak_rates(config: TrainConfig) -> dict[str, float]:
    """The settings that say how long steps are, by name."""
    has_muon = config.optimizer == "muon" and not config.lora  # adapters are AdamW's
    return {"lr": config.lr} | ({"muon_lr": config.muon_lr} if has_muon else {})
