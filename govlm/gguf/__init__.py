"""GGUF, the file format of llama.cpp: a model in one file, read for its config, weights and tokenizer. Nothing is written."""
