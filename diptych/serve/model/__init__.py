"""The model as many requests share it."""
