"""Large batches: several processes, sharded weights, gradient accumulation, compilation."""
