"""Draws pictures with a generator: the steps from noise, and what computes the denoiser."""
