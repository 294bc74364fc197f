"""Output for people and scripts: formatting, JSON, reports and comparisons."""

SCHEMA = 1
"""Version of the JSON objects that commands print."""
