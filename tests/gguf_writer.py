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


_LAYOUTS = {  # values and bytes of a block, and where in it halves stand
    "Q8_0": (32, 34, [0]), "Q4_0": (32, 18, [0]), "Q4_1": (32, 20, [0, 2]), "Q4_K": (256, 144, [0, 2]), "Q6_K": (256, 210, [208]),
}  # fmt: skip


def random_blocks(kind: str, rows: int, k: int, generator: np.random.Generator, scale: float = 0.05) -> np.ndarray:
    """[rows, bytes of a row]: any codes, normal scales."""
    values, size, places = _LAYOUTS[kind]
    found = generator.integers(0, 256, (rows, k // values, size), dtype=np.uint8)
    for at in places:
        half = (scale * generator.standard_normal((rows, k // values, 1))).astype("<f2")
        found[..., at : at + 2] = half.view(np.uint8)
    return found.reshape(rows, -1)


def tiny_llama(seed: int = 0, own_head: bool = False, large: bool = False) -> bytes:
    """A Llama of one layer, width 32, two heads of 16 (one of keys), 64 inner, 20 tokens; matrices in three types. large: ggml's
    blocks of 256 in place of two of them, so width and inner are 256."""
    generator = np.random.default_rng(seed)
    width, inner = (256, 256) if large else (32, 64)
    head = width // 2

    def floats(*shape: int) -> tuple[str, tuple[int, ...], bytes]:
        return "F32", shape, generator.standard_normal(shape).astype("<f4").tobytes()

    def blocks(kind: str, rows: int, k: int) -> tuple[str, tuple[int, ...], bytes]:
        if large:
            kind = {"Q8_0": "Q6_K", "Q4_1": "Q4_K"}.get(kind, kind)
        scale = 0.05 if k < 256 else 2e-5 if kind == "Q6_K" else 2e-4 if kind == "Q4_K" else 0.01
        return kind, (rows, k), random_blocks(kind, rows, k, generator, scale).tobytes()

    tensors = {
        "token_embd.weight": blocks("Q8_0", 20, width),
        "blk.0.attn_norm.weight": floats(width),
        "blk.0.attn_q.weight": blocks("Q4_1", width, width),
        "blk.0.attn_k.weight": blocks("Q4_0", head, width),
        "blk.0.attn_v.weight": ("F16", (head, width), generator.standard_normal((head, width)).astype("<f2").tobytes()),
        "blk.0.attn_output.weight": floats(width, width),
        "blk.0.ffn_norm.weight": floats(width),
        "blk.0.ffn_gate.weight": blocks("Q4_0", inner, width),
        "blk.0.ffn_up.weight": blocks("Q4_1", inner, width),
        "blk.0.ffn_down.weight": blocks("Q8_0", width, inner),
        "output_norm.weight": floats(width),
    }
    if own_head:
        tensors["output.weight"] = floats(20, width)
    metadata = {
        "general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 64, "llama.embedding_length": width,
        "llama.feed_forward_length": inner, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 500.0, "llama.rope.dimension_count": head,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.merges": ["a b", "ab c"],
        "tokenizer.ggml.tokens": [*"abcdefghijklmnop", "Ġ", "ab", "abc", "<end>"],
        "tokenizer.ggml.token_type": [1] * 19 + [3], "tokenizer.ggml.eos_token_id": 19,
    }  # fmt: skip
    return gguf_bytes(metadata, tensors)
