"""The HTTP service of a model and of an index: an API for programs and a page for people."""
