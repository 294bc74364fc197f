"""Connections from the laptop to a node's agent. Only the `ssh*` modules import paramiko."""
