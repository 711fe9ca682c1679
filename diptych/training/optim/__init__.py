"""How weights change: Muon, the moving average, mixed precision."""
