"""The picture formats. `table.py` lists them, one a row; to add one, add its row.

A format has a module here only if Pillow does not read it, or does not read it rightly. Such a module has a function
`open_picture(file, opener)`; `opener.py` has the limits and the last steps that all formats share.
"""
