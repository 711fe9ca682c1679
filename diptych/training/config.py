"""The settings of a training run: one dataclass, its checks, and its forms as JSON and as NAME=VALUE."""

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
from diptych.deprecation import RenamedAttribute, renamed_arguments, warn_renamed
from diptych.errors import ArgumentError, Setting

# The smallest value of each number, and the bound that it must stay below.
RANGES = {
    "epochs": (0, math.inf), "batch_size": (2, math.inf), "captions_per_image": (1, math.inf), "lr": (0, math.inf),
    "eval_every": (1, math.inf), "threads": (1, math.inf), "workers": (0, math.inf), "seed": (0, math.inf),
    "weight_decay": (0, math.inf), "warmup": (0, 1), "ema": (0, 1), "drop_path": (0, 1), "dropout": (0, 1),
    "patch_dropout": (0, 1), "scenes": (0, 1), "region_weight": (0, math.inf), "max_bad": (0, 1.001),
    "accumulate": (1, math.inf), "views": (0, math.inf),
    "muon_lr": (0, math.inf), "muon_momentum": (0, 1), "lora": (0, math.inf), "layer_decay": (0, 1.001),
    "checkpoint_s": (0, math.inf), "timeout_s": (1, 1e7),
}  # fmt: skip
POSITIVE = ("minutes", "clip_norm", "eps", "samples_per_epoch", "lora_alpha", "image_size", "stride")
FROM_MODEL = ("model", "image_weights", "tokenizer", "loss", "vocab_size", "context")  # settings that `init` has
FINE_TUNING = ("lora", "lock_image", "lock_trunk", "lock_text", "zero_shot", "wise_ft")  # settings that need `init`
KEYS = {"region_weight": "places"}  # fields with another key in JSON


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run. Its length is in `epochs`, or in `minutes` of wall-clock time, which then pace the
    schedule.

    Data: `data` are sources for `open_source`, mixed by `weights` (by default by their size). The columns are those of
    tables, whose pictures may be outside of the table's folder with `allow_outside`. `samples_per_epoch` is the length
    of an epoch for sources of unknown length. `scenes` is the share of drawn scenes in each epoch, and `region_weight`
    the weight of the region loss (see `training.objectives.regions`). Each step reads `captions_per_image` captions of
    each picture, all of them positives (the text tower is cheap next to the image tower, and each caption is one more
    negative for all other pictures). A larger share than `max_bad` of unusable samples stops the run. `threads` decode
    pictures, or `workers` processes if there are any.

    Model: `init` starts from a trained model instead of random weights of `model`. The run then uses its tokenizer,
    loss and preprocessing, with this run's `image_size` and a ResNet's `stride`; `activation` is for a state dict,
    which does not contain it. `image_weights` is a file with the released weights of an EfficientNet-Lite, from which
    the image tower of `model` starts. `tokenizer` is a tokenizer.json (or a model folder with one) to use instead of
    training one of `vocab_size` on the captions. `loss` is by default the architecture's.

    Learning: `optimizer` is AdamW with `lr` for all weights, or Muon with `muon_lr` for the matrices between hidden
    spaces and AdamW for the rest. `batch_size` is the number of pictures over all processes; each process computes its
    part in `accumulate` micro-batches, with the same gradient. `warmup` is a share of the run. `ema` averages the
    weights over about 1 / (1 - ema) steps; the average is evaluated and saved; 0 turns it off. `patch_dropout` is the
    share of patches left out (FLIP).

    Fine-tuning: `lock_image` freezes the image tower (LiT), `lock_trunk` only what is below its pooling, so that
    pooling and projection train, and `lock_text` the text tower; `freeze_batch_norm` freezes batch norm. What a frozen
    image tower makes is computed once for each picture and kept in the run's folder, in `views`: the first is the
    picture as in inference, the others are augmented, and each epoch draws one. 0 computes it anew each time, from
    freshly augmented pictures. `lora` is the rank of low-rank adapters, 0 for none, scaled by `lora_alpha` / `lora`;
    `layer_decay` multiplies the learning rate once for every layer below the top; `wise_ft` is the share of the new
    weights in the saved model, interpolated with the old ones; `zero_shot` are class folders to measure before and
    after.

    Running: `precision` is that of the towers, and bf16 also that of Muon's products (otherwise float32). It is by
    default bf16 on devices that have it, else fp32; a run resumed on another device keeps its own. `shard` distributes
    weights over the processes (FSDP2), for models that do not fit on one device. A checkpoint is written every
    `checkpoint_s` seconds. Of several processes, one that hears nothing of another for `timeout_s` seconds takes it for
    lost, and the run fails. `out` is the run's folder, by default the first free one of runs/1, runs/2, .... A folder
    with a run is refused, unless the run is resumed.
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
    region_weight: float = 0.0
    captions_per_image: int = 2
    augmentation: Augmentation = field(default_factory=Augmentation)

    model: str = "resnet-small"
    image_weights: str | None = None
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
    lock_trunk: bool = False
    lock_text: bool = False
    views: int = 1
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
    timeout_s: float = 1800.0

    places = RenamedAttribute("places", "region_weight")

    def __post_init__(self) -> None:
        # One source, a list or a Path become a tuple and text. The class is frozen for all other code.
        if isinstance(self.data, str | os.PathLike):
            object.__setattr__(self, "data", (self.data,))
        for each in dataclasses.fields(self):
            object.__setattr__(self, each.name, _plain(getattr(self, each.name)))
        _check_types(self)
        if not self.data:
            raise ArgumentError(f"data is {self.data!r}; wanted a tuple with one or more folders of pairs, or shards.")
        for name, (minimum, below) in RANGES.items():
            if not minimum <= getattr(self, name) < below:
                end = "" if below == math.inf else f" and under {below}"
                raise _invalid(name, f"is {getattr(self, name)}; wanted {minimum} or more{end}.")
        for name in POSITIVE:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise _invalid(name, f"is {value}; wanted more than 0.")
        if self.shard and self.optimizer == "muon":
            raise ArgumentError(
                [Setting("shard", True), " distributes matrices that muon needs whole."],
                remedy=["Pass ", Setting("optimizer", "adamw"), "."],
                argument="shard",
            )
        if self.region_weight and self.accumulate > 1:
            raise ArgumentError(
                "the region loss needs a whole batch.",
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
            raise _invalid("wise_ft", f"is {self.wise_ft}; wanted 0 (the old weights) to 1 (the new ones).")
        fine_tuning = [name for name in FINE_TUNING if getattr(self, name) not in (None, 0, False, ())]
        has_tower = self.image_weights and {*fine_tuning} <= {"lock_image", "lock_trunk"}
        if fine_tuning and not self.init and not has_tower:
            raise ArgumentError(
                [Setting(fine_tuning[0]), " is for fine-tuning."],
                remedy=["Pass ", Setting("init", "MODEL"), "."],
                argument=fine_tuning[0],
            )
        self._check_locks()
        if self.init and (clash := [name for name in FROM_MODEL if getattr(self, name) != getattr(TrainConfig, name)]):
            raise _invalid(clash[0], "is that of the model to start from; leave it out.")
        if self.activation and not self.init:
            raise ArgumentError(
                [Setting("activation"), " is that of the weights to start from."],
                remedy=["Leave it out, or pass ", Setting("init", "MODEL"), "."],
                argument="activation",
            )

    def _check_locks(self) -> None:
        if self.lock_image and self.lock_trunk:
            raise ArgumentError(
                [Setting("lock_image", True), " freezes the pooling that ", Setting("lock_trunk", True), " trains."],
                remedy=["Choose one."],
                argument="lock_trunk",
            )
        if self.lock_image and self.lock_text:
            raise ArgumentError(
                [Setting("lock_image", True), " and ", Setting("lock_text", True), " leave nothing to train."],
                remedy=["Choose one."],
                argument="lock_text",
            )
        if self.views != TrainConfig.views and not (self.lock_image or self.lock_trunk):
            raise ArgumentError(
                [Setting("views", self.views), " are of pictures that a frozen tower encodes once."],
                remedy=["Leave it out, or pass ", Setting("lock_image", True), "."],
                argument="views",
            )


# The signature with old names; dataclasses.replace() calls it too.
TrainConfig.__init__ = renamed_arguments(places="region_weight")(TrainConfig.__init__)  # type: ignore[method-assign]


def current_name(name: str) -> str:
    """The name of a setting today; warns if `name` is an old one."""
    if name == "places":
        warn_renamed("places", "region_weight")
        return "region_weight"
    return name


def _invalid(name: str, problem: str) -> ArgumentError:
    return ArgumentError([Setting(name), f" {problem}"], argument=name)


def _plain(value: Any) -> Any:
    """A value that JSON can represent: lists become tuples, paths text, and any library's numbers Python's."""
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
            raise _invalid(name, f"{value!r} is not known; choose {', '.join(choices)}.")
        raise _invalid(name, f"is {value!r}; wanted {_type_name(hint)}.")


def _choices(hint: Any) -> tuple[str, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has a field's type. Integers are floats, True and False are not numbers."""
    kinds, origin = typing.get_args(hint), typing.get_origin(hint)
    if origin is Literal:
        return value in kinds
    if origin in (Union, UnionType):
        return any(_fits(value, kind) for kind in kinds)
    if origin is tuple:
        expected = [kinds[0]] * len(value) if isinstance(value, tuple) and ... in kinds else kinds
        return isinstance(value, tuple) and len(value) == len(expected) and all(map(_fits, value, expected))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def from_fields(fields: dict[str, Any]) -> TrainConfig:
    """A configuration from plain values, as in JSON. Raises ValueError with the name of an unknown key."""
    names = {key: name for name, key in KEYS.items()}
    fields = {names.get(key, key): value for key, value in fields.items()}
    if isinstance(fields.get("augmentation"), dict):
        fields["augmentation"] = _build(Augmentation, fields["augmentation"], "augmentation.")
    return _build(TrainConfig, fields)


def _build(kind: type, fields: dict[str, Any], where: str = "") -> Any:
    known = {each.name for each in dataclasses.fields(kind)}
    for name in fields:
        if name not in known:
            raise _unknown(name, known, where)
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def _unknown(name: str, known: Iterable[str], where: str = "") -> ArgumentError:
    """An error for an unknown setting, with the nearest name or all names."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {where}{near[0]}?" if near else f"there are {', '.join(sorted(known))}."
    return ArgumentError(f"{where}{name} is no setting of a run; {hint}")


def to_fields(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain values for `from_fields`, without the settings that `init` has."""
    fields = dataclasses.asdict(config)
    return {KEYS.get(name, name): value for name, value in fields.items() if not (config.init and name in FROM_MODEL)}


def to_json(config: TrainConfig) -> str:
    """The configuration as JSON, for `from_fields(json.loads(...))`."""
    return json.dumps(to_fields(config), indent=2) + "\n"


def parse_setting(text: str) -> tuple[str, Any]:
    """ "lr=0.01" -> ("lr", 0.01), by the field's type; "augmentation.flip=0" is a field of the augmentation.

    Raises ValueError for an unknown name, and for a value of another type.
    """
    name, equals, value = text.partition("=")
    name = current_name(name)
    kind, leaf = (Augmentation, name.partition(".")[2]) if name.startswith("augmentation.") else (TrainConfig, name)
    hints = typing.get_type_hints(kind)
    if not equals:
        raise ArgumentError(f"{text!r} sets nothing; wanted NAME=VALUE.")
    if hints.get(leaf) is Augmentation:
        raise ArgumentError("augmentation is set by its fields, such as augmentation.flip=0.")
    if leaf not in hints:
        raise _unknown(leaf, hints, name.removesuffix(leaf))
    try:
        return name, _parsed(value, hints[leaf])
    except (ValueError, TypeError, KeyError) as error:
        raise ArgumentError(f"{name} cannot be {value!r}; wanted {_type_name(hints[leaf])}.") from error


def _parsed(value: str, hint: Any) -> Any:
    """`value` converted to the first type of the hint that accepts it."""
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


def _type_name(hint: Any) -> str:
    return str(hint).replace("typing.", "") if typing.get_args(hint) else hint.__name__


def schedule(progress: float, warmup: float) -> float:
    """The learning rate as a share of its peak: linear warm-up, then half a cosine down to zero (Loshchilov and Hutter
    2017, equation 5). `progress` and `warmup` are shares of the run, 0 to 1."""
    if progress < warmup:
        return progress / warmup
    done = min(1.0, (progress - warmup) / max(1e-9, 1 - warmup))
    return (1 + math.cos(math.pi * done)) / 2


def peak_rates(config: TrainConfig) -> dict[str, float]:
    """The peak learning rates, by the names of their settings."""
    has_muon = config.optimizer == "muon" and not config.lora  # AdamW trains adapters
    return {"lr": config.lr} | ({"muon_lr": config.muon_lr} if has_muon else {})
