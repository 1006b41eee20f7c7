"""GGUF files for tests, written byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

_NUMBERS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14, "IQ1_S": 19}
_SCALARS = {bool: (7, "<?"), int: (4, "<I"), float: (6, "<f")}


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list):
        if value and isinstance(value[0], str):
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(_text(v) for v in value)
        return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
    kind, code = _SCALARS[type(value)]
    return struct.pack("<I", kind) + struct.pack(code, value)


def gguf_bytes(
    metadata: Mapping[str, Any],
    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]],
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """tensors: name -> (type, shape as in NumPy, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(_text(key) + _value(value) for key, value in metadata.items())
    body = b""
    for name, (kind, shape, data) in tensors.items():
        body += b"\0" * (-len(body) % alignment)
        head += _text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        head += struct.pack("<IQ", _NUMBERS[kind], len(body))
        body += data
    return head + b"\0" * (-len(head) % alignment) + body


def tiny_llama(seed: int = 0, own_head: bool = False) -> bytes:
    """A Llama of one layer, width 32, two heads of 16 (one of keys), 48 inner, 20 tokens; matrices in three types."""
    generator = np.random.default_rng(seed)

    def floats(*shape: int) -> tuple[str, tuple[int, ...], bytes]:
        return "F32", shape, generator.standard_normal(shape).astype("<f4").tobytes()

    def blocks(kind: str, rows: int, k: int) -> tuple[str, tuple[int, ...], bytes]:
        head = {"Q8_0": 2, "Q4_0": 2, "Q4_1": 4}[kind]
        body = 32 if kind == "Q8_0" else 16
        count = rows * k // 32
        halves = (0.05 * generator.standard_normal((count, head // 2))).astype("<f2").view(np.uint8).reshape(count, head)
        codes = generator.integers(0, 256, (count, body), dtype=np.uint8)
        return kind, (rows, k), np.concatenate([halves, codes], axis=1).tobytes()

    tensors = {
        "token_embd.weight": blocks("Q8_0", 20, 32),
        "blk.0.attn_norm.weight": floats(32),
        "blk.0.attn_q.weight": blocks("Q4_1", 32, 32),
        "blk.0.attn_k.weight": blocks("Q4_0", 16, 32),
        "blk.0.attn_v.weight": ("F16", (16, 32), generator.standard_normal((16, 32)).astype("<f2").tobytes()),
        "blk.0.attn_output.weight": floats(32, 32),
        "blk.0.ffn_norm.weight": floats(32),
        "blk.0.ffn_gate.weight": blocks("Q4_0", 64, 32),
        "blk.0.ffn_up.weight": blocks("Q4_1", 64, 32),
        "blk.0.ffn_down.weight": blocks("Q8_0", 32, 64),
        "output_norm.weight": floats(32),
    }
    if own_head:
        tensors["output.weight"] = floats(20, 32)
    metadata = {
        "general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 64, "llama.embedding_length": 32,
        "llama.feed_forward_length": 64, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 500.0, "llama.rope.dimension_count": 16,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.merges": ["a b", "ab c"],
        "tokenizer.ggml.tokens": [*"abcdefghijklmnop", "Ġ", "ab", "abc", "<end>"],
        "tokenizer.ggml.token_type": [1] * 19 + [3], "tokenizer.ggml.eos_token_id": 19,
    }  # fmt: skip
    return gguf_bytes(metadata, tensors)
