"""The SQLite file that is the truth of an index."""
