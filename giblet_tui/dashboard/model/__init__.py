"""What the dashboard shows, computed from snapshots; contains no widgets."""
