"""What the dashboard shows, computed from snapshots without Textual."""
