"""Folders of the user's own: the cache, which may be deleted, and the configuration, which nobody else can read."""
