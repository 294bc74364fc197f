"""Planning and starting of runs on one or several nodes."""
