"""Splits, standardisation, detrending and confound regression of the stored arrays."""
