"""Reads files in child processes, which may hang or crash without harm to the parent."""
