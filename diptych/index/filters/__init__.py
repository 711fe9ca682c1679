"""Which items a search may find."""
