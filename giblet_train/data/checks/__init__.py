"""Checks of a study's files and timing, with the report of `giblet data check`."""
