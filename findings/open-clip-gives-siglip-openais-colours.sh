#!/usr/bin/env bash
# open_clip gives a SigLIP architecture OpenAI's mean, deviation and crop, unless the weights come by one of its
# own names.
# open_clip 3.3.0, timm 1.0.31, torch 2.13.0, torchvision 0.29.1 (its Python transforms).
# Expected: SigLIP's own (.5 and .5, squashed to a square), which open_clip's table has for all weights of that
# architecture; or a warning.
# Seen: a folder whose open_clip_config.json has a model_cfg of ViT-B-16-SigLIP and no preprocess_cfg gets mean
# .481, .458, .408 and a crop of the middle. Fine-tuned SigLIPs read their pictures wrongly without a word about
# it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 pillow==13.0.0 ftfy==6.3.1 regex==2026.11.15 huggingface_hub==2.4.0 safetensors==0.8.0 tqdm==4.70.1 pyyaml==6.0.3
"$folder/venv/bin/pip" install --quiet --no-deps torchvision==0.29.1 timm==1.0.31 open_clip_torch==3.3.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import json
import logging
import pathlib
import sys

import torch

if torch.version.cuda is None:  # a build of torchvision for CUDA has its operators out of reach here
    operators = torch.library.Library("torchvision", "DEF")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import open_clip

logging.disable()
name = "ViT-B-16-SigLIP"
own = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
assert own and all(tuple(one["mean"]) == (0.5, 0.5, 0.5) and one["resize_mode"] == "squash" for one in own)
architecture = open_clip.get_model_config(name)
architecture["vision_cfg"]["timm_model_name"] = "vit_tiny_patch16_224"  # colours go by the folder: small ones will do
architecture["text_cfg"].update(width=64, heads=2, layers=1, vocab_size=100)
pathlib.Path("open_clip_config.json").write_text(json.dumps({"model_cfg": architecture}))
model = open_clip.create_model("local-dir:.", load_weights=False)
given = open_clip.get_model_preprocess_cfg(model)
print("own:", own[0]["mean"], own[0]["resize_mode"], "given:", given["mean"], given["resize_mode"])
if tuple(given["mean"]) == (0.5, 0.5, 0.5):
    sys.exit("changed: it gets its own")
assert tuple(given["mean"]) == (0.48145466, 0.4578275, 0.40821073) and given["resize_mode"] == "shortest"
PROGRAM
