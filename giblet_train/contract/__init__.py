"""All that the engine and the application share: configuration, schedule, records, health and verdicts.

Nothing here imports torch, numpy or any other part of giblet, so a laptop can read it in milliseconds.
"""
