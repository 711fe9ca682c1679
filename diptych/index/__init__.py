"""Finding pictures by a sentence."""
