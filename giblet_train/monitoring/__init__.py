"""What a running training writes and watches: metrics, heartbeat, alerts and the verdict."""
