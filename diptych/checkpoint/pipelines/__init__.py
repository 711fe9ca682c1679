"""Text towers in the folders of diffusers' pipelines: Stable Diffusion's text_encoder/ and tokenizer/."""
