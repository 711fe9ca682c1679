"""The two towers, in torch alone: no files, no pictures, no strings."""
