"""What the hall knows, and where it is kept."""
