"""Readers of study files: BIDS derivatives, NIfTI, annotations, atlases."""
