"""The formats of checkpoints: names and configurations, both ways."""
