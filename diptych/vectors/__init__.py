"""The nearest-neighbour structure, in numpy and faiss alone."""
