"""Untrusted input: JSON, files, links and downloads, each read under limits."""
