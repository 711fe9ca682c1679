"""Pictures of pairs: made ready for a shard, and judged by their sizes, pixels, neighbours and words."""
