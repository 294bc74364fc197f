"""Formats shared by the engine and the application: configuration, run records, paths and schedule.

Imports the standard library, msgspec and yaml only, so it loads in milliseconds on a laptop.
"""
