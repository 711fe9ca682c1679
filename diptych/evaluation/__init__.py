"""Models x data sets x tasks: what is measured, and the report of it."""
