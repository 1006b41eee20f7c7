"""Corpora: texts of many formats become token shards that training maps into memory."""
