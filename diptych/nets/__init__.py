"""The image and text towers, in torch alone: no files, images or strings. The losses are in `training.objectives`."""
