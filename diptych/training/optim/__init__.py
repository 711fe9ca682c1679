"""Optimizers, averages and precision."""
