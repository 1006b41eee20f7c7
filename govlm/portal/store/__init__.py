"""What the portal keeps, beside the hall's tables in the same database."""
