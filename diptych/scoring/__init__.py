"""Scores from vectors: arrays in, arrays out."""
