"""Installs giblet on a node and runs engine commands there."""
