"""The losses: contrastive between pictures and texts (softmax as in CLIP, sigmoid as in SigLIP), and one for regions.

A new loss goes into a module here; `parallel.distributed` and `parallel.accumulate` call them on each batch.
"""
