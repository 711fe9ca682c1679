"""Tables that name pictures and hold captions."""
