"""A folder's index as many requests read it."""
