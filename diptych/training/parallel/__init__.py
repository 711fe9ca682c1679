"""Large batches in parts and over processes."""
