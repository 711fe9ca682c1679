"""Decodes, cleans and tokenizes text, and splits it into paragraphs and phrases."""
