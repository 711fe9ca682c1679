"""What Diptych keeps on disk: directories, locks, caches, and files that are whole or not there."""
