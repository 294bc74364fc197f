"""Analyses of trained runs: evaluation tables, lesions, reconstructed films and ensembles."""
