"""Actions on existing runs: stop, clean up, adopt and acknowledge alerts."""
