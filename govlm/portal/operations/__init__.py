"""Running the portal: workers, logs, metrics, backups, retention, wiping."""
