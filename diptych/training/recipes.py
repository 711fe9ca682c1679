"""Recipes: settings for common kinds of training, by name and with their sources."""

import difflib
from dataclasses import dataclass
from typing import Any

from diptych.data.loading.augmentation import NONE, Augmentation
from diptych.errors import ArgumentError
from diptych.training.config import FROM_MODEL, TrainConfig, current_name, from_fields


@dataclass(frozen=True)
class Recipe:
    """Its purpose, the source of its numbers, and the settings that differ from TrainConfig's defaults."""

    purpose: str
    source: str
    settings: dict[str, Any]


# Random square crops are OpenAI's only augmentation. The paper gives no area; this takes 90 %.
_SQUARE_CROP = Augmentation(crop_scale=0.9, flip=0.0, jitter=0.0, erase=0.0, drop_words=0.0)
_PLAIN = {"optimizer": "adamw", "captions_per_image": 1, "drop_path": 0.0, "dropout": 0.0, "ema": 0.0}

RECIPES = {
    "laptop": Recipe(
        "thousands of pairs, from random weights, on a CPU",
        "Diptych: docs/log.md has what each setting gained; Muon is Jordan et al. 2024",
        {
            "model": "resnet-small", "optimizer": "muon", "lr": 1e-3, "muon_lr": 0.02, "batch_size": 256,
            "captions_per_image": 2, "warmup": 0.05, "weight_decay": 0.1, "ema": 0.998, "drop_path": 0.1,
            "dropout": 0.15,
            "augmentation": Augmentation(crop_scale=0.3, flip=0.5, jitter=0.4, erase=0.4, drop_words=0.15),
        },
    ),
    "openai": Recipe(
        "hundreds of millions of pairs, from random weights, on many GPUs",
        "Radford et al. 2021, section 2.5 and tables 18 and 20 (ViT-B/32)",
        {
            "model": "ViT-B/32", "vocab_size": 49408, "context": 77, "epochs": 32, "batch_size": 32768, "lr": 5e-4,
            "warmup": 2000 * 32768 / (32 * 400e6),  # 2,000 of its steps
            "weight_decay": 0.2, "betas": (0.9, 0.98), "eps": 1e-6, "augmentation": _SQUARE_CROP,
            "precision": "fp16", "gradient_checkpointing": True, **_PLAIN,
        },
    ),
    "siglip": Recipe(
        "hundreds of millions of pairs, from random weights, with the sigmoid loss",
        "Zhai et al. 2023, sections 4.2 and 4.5 (batch 32k, second beta 0.95); AdamW instead of its Adafactor",
        {
            "model": "SigLIP-B/16", "vocab_size": 32000, "context": 64, "epochs": 1, "batch_size": 32768, "lr": 1e-3,
            "warmup": 0.05, "weight_decay": 1e-4, "betas": (0.9, 0.95), "loss": "sigmoid", "augmentation": NONE,
            **_PLAIN,
        },
    ),
    "finetune": Recipe(
        "a trained model, on a little data of your own",
        "Goyal et al. 2023 (FLYP: the contrastive loss, lr 1e-5, 10 epochs); Dong et al. 2022 (layer-wise rates, an "
        "average of weights); Wortsman et al. 2022 (WiSE-FT, halfway)",
        {
            "optimizer": "adamw", "epochs": 10, "batch_size": 128, "lr": 1e-5, "warmup": 0.1, "weight_decay": 0.1,
            "layer_decay": 0.75, "ema": 0.99, "drop_path": 0.0, "dropout": 0.0,
            "freeze_batch_norm": True, "wise_ft": 0.5, "eval_every": 1,
            "augmentation": Augmentation(crop_scale=0.6, flip=0.5, jitter=0.2, erase=0.0, drop_words=0.0),
        },
    ),
}  # fmt: skip


RECIPES["lora"] = Recipe(
    "a trained model, on a little data, through low-rank adapters: less memory and less forgetting",
    "Hu et al. 2021; Zanella and Ben Ayed 2024 (CLIP, lr 2e-4); the rest as in finetune",
    RECIPES["finetune"].settings | {"lora": 8, "lora_alpha": 16.0, "lr": 2e-4, "layer_decay": 1.0},
)


def recipe(name: str, **changes: object) -> TrainConfig:
    """The recipe called `name` with `changes` (at least `data`; `finetune` and `lora` need `init`).

    >>> recipe("laptop", data=("pairs/train",), minutes=30)  # doctest: +SKIP

    Raises ArgumentError with the known names, or for settings that contradict each other.
    """
    changes = {current_name(name): value for name, value in changes.items()}
    return from_fields(settings_of(name, init=bool(changes.get("init"))) | changes)


def settings_of(name: str, *, init: bool = False) -> dict[str, Any]:
    """A recipe's settings; with `init` without those that a model has. Raises ValueError with the known names."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}? There are" if near else "there are"
        raise ArgumentError(f"no recipe is called {name!r}; {hint} {', '.join(RECIPES)}.")
    return {key: value for key, value in RECIPES[name].settings.items() if not (init and key in FROM_MODEL)}
