"""Evaluation: models x data sets x tasks."""
