"""What rules removed: counts and examples, and the page that shows them."""
