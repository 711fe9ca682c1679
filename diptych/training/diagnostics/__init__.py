"""Monitoring of a run: live lines, metrics, curves, causes of a stuck or non-finite loss, throughput."""
