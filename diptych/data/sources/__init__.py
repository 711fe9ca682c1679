"""Where pairs come from: folders, shards, the hub."""
