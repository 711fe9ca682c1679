"""Picture files of every kind, opened upright and 8 bits deep: by Pillow, and what it cannot read by others."""
