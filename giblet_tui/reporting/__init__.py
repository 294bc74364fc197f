"""Output for people and scripts: formatting, JSON, reports and comparisons."""
