"""Sources of pairs: folders, shards, the hub."""
