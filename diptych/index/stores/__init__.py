"""Where vectors and their items are kept and searched."""
