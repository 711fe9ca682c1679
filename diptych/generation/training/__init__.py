"""Trains a generator: pairs, the steps, and a run in its folder."""
