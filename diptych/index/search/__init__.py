"""Looking things up in an index."""
