"""Nearest-neighbour search over float16 vectors; needs numpy alone, and faiss for large sets."""
