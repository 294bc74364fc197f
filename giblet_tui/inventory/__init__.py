"""Known nodes, SSH hosts and run configurations."""
