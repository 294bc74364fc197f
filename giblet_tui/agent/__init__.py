"""The program that runs on a node. Standard library only, Python 3.8 or newer."""
