"""Pictures, texts and labels through a model in batches: what `diptych.Embedder` is made of."""
