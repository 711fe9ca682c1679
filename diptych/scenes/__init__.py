"""Draws training scenes with captions and boxes: `shapes` and `designs` outline objects, `drawing` paints them,
`captions` describes them, `scene` composes them."""
