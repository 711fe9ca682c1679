"""Output for people: escaped text, plots, pages."""
