"""Pairs from pages: what a page shows, which pages are known, and the crawl over them."""
