"""What was done by whom, in chains that show every change."""
