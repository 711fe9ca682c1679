"""Whether an index is one that this user made or accepted."""
