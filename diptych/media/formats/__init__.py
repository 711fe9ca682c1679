"""One module for each format that Pillow does not read, or does not read rightly."""
