#!/usr/bin/env bash
# diffusers 0.42.1 with transformers 5.23.0, torch 2.13.0 (CPU).
#
# A Stable Diffusion pipeline whose files hold float16 weights is opened without a dtype. diffusers converts its own
# parts to float32, its documented default; transformers 5 keeps the dtype of the file. So the two halves of one
# pipeline differ, and the first prompt fails with an error of a matrix product. One would expect from_pretrained to
# bring all parts to one dtype, as it did with transformers 4, whose default was float32.
#
# Seen:
#   text encoder: torch.float16, denoiser: torch.float32
#   RuntimeError: mat1 and mat2 must have the same dtype, but got Half and Float
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 numpy
cd "$work"
"$work/venv/bin/python" - <<'PY' 2>errors.txt | tee said.txt
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "a"]
Path("vocab.json").write_text(json.dumps({word: at for at, word in enumerate(words)}))
Path("merges.txt").write_text("#version: 0.2\n")
tokenizer = CLIPTokenizer("vocab.json", "merges.txt", model_max_length=8)
text = CLIPTextModel(CLIPTextConfig(vocab_size=4, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                    num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=1))
unet = UNet2DConditionModel(sample_size=8, block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=16,
                            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=4,
                            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2)
vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
pipeline = StableDiffusionPipeline(vae, text, tokenizer, unet, DDIMScheduler(steps_offset=1, clip_sample=False), None,
                                   None, requires_safety_checker=False)
pipeline.to(torch.float16).save_pretrained("pipeline")
opened = StableDiffusionPipeline.from_pretrained("pipeline")
print(f"text encoder: {opened.text_encoder.dtype}, denoiser: {opened.unet.dtype}")
try:
    opened("a", num_inference_steps=1, output_type="np")
except RuntimeError as error:
    print(f"RuntimeError: {error}")
PY
grep -q "text encoder: torch.float16, denoiser: torch.float32" said.txt
grep -q "RuntimeError: mat1 and mat2 must have the same dtype" said.txt
