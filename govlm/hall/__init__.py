"""The hall assistant. Nothing here imports a web framework."""
