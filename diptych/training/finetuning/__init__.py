"""Training from a pretrained model."""
