"""How well brains are predicted and films rebuilt on TRs that chose nothing."""
