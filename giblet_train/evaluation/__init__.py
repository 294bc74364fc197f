"""Encoding and reconstruction performance on held-out TRs."""
