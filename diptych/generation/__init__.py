"""Pictures from words: a small diffusion model that reads the text tower's states."""
