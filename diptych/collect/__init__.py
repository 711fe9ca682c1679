"""Collecting (picture, caption) pairs: from pages, from archives of pages, from lists of addresses."""
