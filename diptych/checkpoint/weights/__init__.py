"""Files of weights, read as data and checked."""
