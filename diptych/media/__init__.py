"""Pictures, videos and text files, from bytes to the pixels and words that a model embeds.

A picture's way: `opening` turns a path, URL, bytes or an array into an upright 8-bit picture, by the module that
`formats/table` names for its first bytes or by Pillow. `images` returns it as RGB; `preprocessing` resizes, crops and
normalises it for an image tower. To add a picture format, add a row to `formats/table.py`.

`scanning/` finds files and their kinds. `content/` reads photographs, videos and their metadata. `reading/` reads
files in child processes, because a decoder may hang or crash. `pixels/` converts depth, colour and orientation.
`items` has the records that an index stores; `memory` limits the memory of decoding.
"""
