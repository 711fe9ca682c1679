"""Which captions are usable, how many pairs of a kind to keep, and the report of what was removed."""
