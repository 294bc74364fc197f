"""giblet's training engine. On a node: `python -m giblet_train train RUN_DIR`."""

__version__ = "0.1.0"
