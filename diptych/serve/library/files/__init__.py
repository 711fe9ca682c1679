"""Files that are read or kept for requests: originals, thumbnails, uploads."""
