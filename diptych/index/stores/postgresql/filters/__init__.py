"""Filters of a search as conditions of PostgreSQL."""
