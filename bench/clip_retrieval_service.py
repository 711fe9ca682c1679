"""clip-retrieval's back end (`clip-retrieval back`, its server is Flask's) over the vectors of our index.

It needs an environment of its own: `pip install clip-retrieval "transformers<5" "setuptools<81"`, since under
transformers 5 its loader hands on an object that is not a tensor, and OpenAI's `clip` needs pkg_resources. Where torch
is a CPU build, torchvision 0.15.2 without its dependencies is one whose import needs no compiled operators.

What differs from ours: its model is of transformers in float32, with a vocabulary of 49,408 and all texts filled to 77
tokens; the weights are random. The model is either ViT-B/32, or one whose text tower has the size of our bundled one,
so that the services are compared rather than the models. Its search is exact, ours of 100,000 vectors is approximate;
HNSW, which autofaiss would choose for it, made it a tenth faster in one run. Its hits have paths and empty captions, no
pictures, and duplicates stay. It closes a connection after each answer. It listens on all addresses of the machine,
without a token.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from linked_library import random_vectors
from services import Service, free_address

import diptych
from diptych.checkpoint import save_folder
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig
from diptych.nets.presets import preset
from diptych.text.tokenizer import Tokenizer

OFF = ("enable_mclip_option", "provide_aesthetic_embeddings", "use_jit")


def clip_retrieval_services(
    python: str, work: Path, captions: Sequence[str], *, pictures: int, quick: bool
) -> list[Service]:
    """One whose text tower is as small as ours, and one with ViT-B/32."""
    folder = work / "clip-retrieval"
    folder.mkdir()
    dim = diptych.load().dim
    np.save(vectors := folder / "vectors.npy", random_vectors(pictures, dim))
    script = Path(__file__).with_name("clip_retrieval_index.py")
    subprocess.run([python, str(script), str(vectors), str(folder)], check=True)
    (indices := folder / "indices.json").write_text(f'{{"bench": "{folder}"}}')
    large = replace(preset("ViT-B/32"), embed_dim=dim)
    models = {"a text tower as small as ours": _as_small_as_ours(large), "ViT-B/32": large}
    return [
        _service(python, name, _model(folder / f"model {number}", config, captions), indices)
        for number, (name, config) in enumerate(models.items())
        if not (quick and number)
    ]


def _as_small_as_ours(config: CLIPConfig) -> CLIPConfig:
    """Pictures are not asked for: their tower is the smallest."""
    ours = diptych.load().config.text
    text = replace(config.text, width=ours.width, layers=ours.layers, heads=ours.heads, mlp_width=ours.mlp_width)
    return replace(config, text=text, image=preset("vit-tiny").image)


def _model(folder: Path, config: CLIPConfig, captions: Sequence[str]) -> Path:
    """Its own vocabulary reads the texts; the tokenizer of the folder has to be there and is not asked."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(captions, vocab_size=config.text.vocab_size, context=config.text.context)
    spec = Preprocess(config.image.image_size).to_hugging_face()
    return save_folder(folder, CLIP(config), tokenizer_json=tokenizer.to_json(), preprocess=spec)


def _service(python: str, name: str, model: Path, indices: Path) -> Service:
    address, port = free_address()
    command = [
        str(Path(python).with_name("clip-retrieval")), "back", "--indices_paths", str(indices), "--port", port,
        "--clip_model", f"hf_clip:{model}", "--use_arrow", "True", *(f"--{option}=False" for option in OFF),
    ]  # fmt: skip
    environment = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    return Service(f"clip-retrieval, {name}", address, command, environment, question("a dog"), route="/knn-service")


def question(text: str) -> dict[str, Any]:
    """What its own client asks for 60 hits."""
    filters = dict.fromkeys(("deduplicate", "use_safety_model", "use_violence_detector", "use_mclip"), False)
    wanted = {"modality": "image", "num_images": 60, "num_result_ids": 60, "indice_name": "bench"}
    return {"text": text, "image": None, "image_url": None, "embedding_input": None, **filters, **wanted}
