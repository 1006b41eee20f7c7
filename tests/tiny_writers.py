"""Shapes of tiny random models that write, without a tokenizer: a causal one and a T5 with the same vocabulary and special ids."""

from __future__ import annotations

from typing import Any

EOS, VOCABULARY = 2, 67
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 200, "initializer_range": 0.3, "eos_token_id": EOS, "pad_token_id": 1,
    "bos_token_id": 3,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 3,
    "eos_token_id": EOS, "pad_token_id": 1, "initializer_factor": 1.5,
}  # fmt: skip
