"""The files of a run (settings, checkpoints, metrics, skipped samples) and the signals that stop it."""
