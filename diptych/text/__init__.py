"""Text: decoding files, cleaning, tokenizing, and splitting into paragraphs and phrases."""
