"""The training loop and its services: checkpoints, stop signals, sanity checks and step logging."""
