"""What people look at: text made harmless, plots, pages."""
