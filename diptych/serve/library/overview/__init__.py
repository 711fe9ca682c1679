"""The whole library at once: groups of duplicates, and every picture as a point."""
