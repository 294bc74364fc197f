"""Tools for programs that speak the Model Context Protocol: reading runs, and asking a person for changes."""
