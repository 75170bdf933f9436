"""Data sets, replayable augmentation on batches, loaders."""
