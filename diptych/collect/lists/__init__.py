"""Tables of addresses and captions, downloaded into shards."""
