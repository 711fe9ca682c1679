"""How many pairs of a kind to keep: queries, and the balancing of CLIP and of MetaCLIP over them."""
