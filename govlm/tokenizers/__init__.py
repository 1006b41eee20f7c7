"""Tokenizers: transformers' names and results over the native core."""
