"""Training by contrast."""
