"""Installation of giblet on a node, and the engine commands run there."""
