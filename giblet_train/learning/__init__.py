"""What a step does and what it stands on: windows, targets, losses, the start from ridge, one optimizer step."""
