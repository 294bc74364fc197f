"""Statistics of responses and stimuli: HRF, lag, inter-subject correlation, predictivity."""
