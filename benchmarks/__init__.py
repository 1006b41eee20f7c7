"""Benchmarks: `python -m benchmarks` writes the table of govlm beside its peers. See SPEED.md for every attempt so far."""
