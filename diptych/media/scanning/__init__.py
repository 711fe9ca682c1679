"""The files of a folder that an index contains."""
