"""Stimulus features per TR: video frames, log-mel audio, text embeddings and external features."""
