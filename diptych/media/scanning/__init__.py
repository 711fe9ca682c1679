"""Finds the files of a folder to index, by suffix, kind and patterns. `suffixes` lists the suffixes."""
