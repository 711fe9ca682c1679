"""The files of a folder that an index contains, by suffix, kind and patterns. `suffixes` lists the suffixes."""
