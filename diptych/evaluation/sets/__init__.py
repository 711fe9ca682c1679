"""Data sets that models are judged by."""
