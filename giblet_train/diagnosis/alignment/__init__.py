"""Check of the timing between film, brain and subjects, before the first step."""
