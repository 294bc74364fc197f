"""The processes of a run: on one node or several, who they are, and which of them failed first."""
