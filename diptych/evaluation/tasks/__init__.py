"""The tasks of an evaluation."""
