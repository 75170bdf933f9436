"""One run: trainer, evaluation, optimiser and schedule, run folders, distribution."""
