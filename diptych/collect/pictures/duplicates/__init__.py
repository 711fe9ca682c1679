"""Copies of pictures: found by hash and by vector, told by their pixels."""
