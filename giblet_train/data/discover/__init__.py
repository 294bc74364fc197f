"""Describe a folder of films and scans as a table of runs, from names and from what the brains follow."""
