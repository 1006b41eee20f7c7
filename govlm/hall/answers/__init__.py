"""Answers whose every fact is copied from a record and cited, checked before they are given."""
