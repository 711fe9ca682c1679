"""The user's folders: the cache, which may be deleted, and the configuration, which is private."""
