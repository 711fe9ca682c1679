"""Short names of pretrained models on the hub."""
