"""What is collected, on disk: shards with their tables, what was asked to be forgotten, the datasheet."""
