"""Generation: what follows a text, token by token."""
