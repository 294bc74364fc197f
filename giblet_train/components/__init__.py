"""Building blocks of a training step: batches, targets, losses, initialisation and the optimizer step."""
