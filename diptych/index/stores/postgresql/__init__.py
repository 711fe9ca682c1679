"""A store in a PostgreSQL database with pgvector."""
