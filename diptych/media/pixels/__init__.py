"""Pixels on their way to 8-bit RGB: depth, colour, transparency, orientation."""
