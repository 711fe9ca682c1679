"""Conversions of pixels to 8-bit RGB: depth, high dynamic range, transparency, orientation, arrays."""
