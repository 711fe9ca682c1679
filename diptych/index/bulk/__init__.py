"""Many pictures at once, from shards too: vectors in files or in a store, in this process or on a Ray cluster."""
