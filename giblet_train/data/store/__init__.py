"""The prepared study on disk: memory-mapped arrays and their manifest."""
