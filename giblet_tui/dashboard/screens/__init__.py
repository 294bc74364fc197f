"""The main screen and what lies over it: help and the stop dialog."""
