"""The simulated demo study: a film and fMRI responses with known ground truth."""
