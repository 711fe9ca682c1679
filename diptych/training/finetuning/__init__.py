"""Training from a pretrained model: freezing, low-rank adapters, and what is forgotten."""
