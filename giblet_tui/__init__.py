"""giblet's terminal application: launches, watches, stops and judges runs on remote nodes."""
