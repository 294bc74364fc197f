"""What the engine and the application share: configuration, run records, paths and schedule.

Imports the standard library, msgspec and yaml only, so a laptop reads it in milliseconds.
"""
