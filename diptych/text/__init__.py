"""Text in: decoding of files, cleaning, tokenizing, paragraphs."""
