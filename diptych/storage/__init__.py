"""Storage on disk: index directories, locks, caches, and files that are written atomically."""
