"""Data sets for evaluating models."""
