"""HTTP itself: errors, limits, tokens, the shapes of requests and answers."""
