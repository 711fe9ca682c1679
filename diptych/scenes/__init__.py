"""Drawn scenes with captions and boxes."""
