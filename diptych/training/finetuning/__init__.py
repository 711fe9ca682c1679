"""Training from a pretrained model: freezing, low-rank adapters, and measures of forgetting."""
