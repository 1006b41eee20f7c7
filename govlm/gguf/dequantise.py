"""What the blocks of GGUF's tensor types stand for: in float32 as ggml computes it, or rounded to the blocks that we multiply.

The layouts are those of ggml-common.h. A block is a row of bytes; scales are IEEE halves unless said otherwise. Values are made
in chunks, so that what is needed on the way stays small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..blocks import BlockValues, round_blocks
from .file import TYPES

__all__ = ["KINDS", "ROUNDED", "dequantise", "rounded"]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
_SIZES = {name: (block, size) for name, block, size in TYPES.values()}
_CHUNK = 1 << 22  # values made at once


def _half(blocks: U8, at: int) -> F32:
    """[N, 1]: the half at byte `at` of every block."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: U8) -> U8:
    """[…, n] -> […, 2n]: the low halves of the bytes, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _fifth(bits: U8) -> U8:
    """[N, 4] -> [N, 32]: bit j of the four bytes, as 0 or 16."""
    return np.unpackbits(np.ascontiguousarray(bits), axis=1, bitorder="little") << np.uint8(4)


def _q4_0(b: U8) -> F32:
    """scale, 16 bytes: byte j holds values j and j + 16."""
    return _half(b, 0) * (_nibbles(b[:, 2:]).astype(np.float32) - np.float32(8))


def _q4_1(b: U8) -> F32:
    """scale, minimum, 16 bytes."""
    return _half(b, 0) * _nibbles(b[:, 4:]).astype(np.float32) + _half(b, 2)


def _q5_0(b: U8) -> F32:
    """scale, fifth bits [4], 16 bytes."""
    return _half(b, 0) * ((_nibbles(b[:, 6:]) | _fifth(b[:, 2:6])).astype(np.float32) - np.float32(16))


def _q5_1(b: U8) -> F32:
    """scale, minimum, fifth bits [4], 16 bytes."""
    return _half(b, 0) * (_nibbles(b[:, 8:]) | _fifth(b[:, 4:8])).astype(np.float32) + _half(b, 2)


def _q8_0(b: U8) -> F32:
    """scale, 32 signed bytes."""
    return _half(b, 0) * b[:, 2:].view(np.int8).astype(np.float32)


def _six_bits(b: U8) -> tuple[F32, F32]:
    """The eight scales and eight minimums of 12 bytes, [N, 8] each: six bits of every one, the upper two of the last four of
    each kind in the high bits of the first eight bytes."""
    low, middle, high = b[:, 0:4], b[:, 4:8], b[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 2 & 48)], axis=1)
    minimums = np.concatenate([middle & 63, (high >> 4) | (middle >> 2 & 48)], axis=1)
    return scales.astype(np.float32), minimums.astype(np.float32)


def _with_minimums(b: U8, codes: U8) -> F32:
    """codes [N, 8, 32] of a block that begins with scale, scale of the minimums and 12 bytes of both."""
    scales, minimums = _six_bits(b[:, 4:16])
    scale, minimum = (_half(b, 0) * scales)[:, :, None], (_half(b, 2) * minimums)[:, :, None]
    return (scale * codes.astype(np.float32) - minimum).reshape(len(b), 256)


def _q4_k(b: U8) -> F32:
    """128 bytes: 32 of them hold 32 values in their low halves and the next 32 in their high ones."""
    return _with_minimums(b, _nibbles(b[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


def _q5_k(b: U8) -> F32:
    """fifth bits [32] (bit g of byte j: value j of part g), 128 bytes as in Q4_K."""
    fifth: U8 = (b[:, 16:48].reshape(-1, 1, 32) >> np.arange(8, dtype=np.uint8).reshape(1, 8, 1)).astype(np.uint8) & np.uint8(1)
    return _with_minimums(b, _nibbles(b[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32) | fifth << np.uint8(4))


def _q6_k(b: U8) -> F32:
    """low four bits [128], high two [64], 16 signed scales of 16 values, scale."""
    halves = b[:, :128].reshape(-1, 2, 64)  # of each: two parts in the low halves of the bytes, two in the high ones
    low = np.concatenate([halves & 15, halves >> 4], axis=2).reshape(-1, 2, 4, 32)
    high = b[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1) & 3
    codes = ((low | high << 4).astype(np.float32) - np.float32(32)).reshape(-1, 16, 16)
    scales = _half(b, 208) * b[:, 192:208].view(np.int8).astype(np.float32)
    return (scales[:, :, None] * codes).reshape(len(b), 256)


def _bf16(b: U8) -> F32:
    return (np.ascontiguousarray(b).view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def _plain(layout: str) -> Callable[[U8], Any]:
    return lambda b: np.ascontiguousarray(b).view(layout).astype(np.float32)


KINDS: dict[str, Callable[[U8], Any]] = {
    "F32": _plain("<f4"), "F16": _plain("<f2"), "BF16": _bf16, "F64": _plain("<f8"), "Q4_0": _q4_0, "Q4_1": _q4_1,
    "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k,
}  # fmt: skip


def dequantise(kind: str, rows: U8) -> F32:
    """rows [n, bytes of a row], as GGUFFile.raw gives them -> [n, k] float32. ValueError for a kind that is not in KINDS."""
    if kind not in KINDS:
        raise ValueError(f"tensors of type {kind} are not supported; govlm reads {', '.join(KINDS)}")
    block, size = _SIZES[kind]
    flat = rows.reshape(-1, size)
    out = np.empty((len(flat), block), np.float32)
    step = _CHUNK // block
    for begin in range(0, len(flat), step):
        out[begin : begin + step] = KINDS[kind](flat[begin : begin + step])
    return out.reshape(len(rows), -1)


ROUNDED = {
    "Q4_K": 4,
    "Q5_0": 8,
    "Q5_1": 8,
    "Q5_K": 8,
    "Q6_K": 8,
}  # bits that our blocks have for a kind that is not one of them


def rounded(kind: str, rows: U8) -> BlockValues:
    """rows as above, of a kind in ROUNDED -> its blocks of 32: Q4_K's codes with scales and minimums, each a product of two
    numbers there and a half here (off by 2^-12 of itself at most); others anew in 8 bits, which adds an eighth at most to the
    squared error that five or six bits made. ValueError for scales that are not finite.
    """
    if kind == "Q4_K":
        b = rows.reshape(-1, _SIZES[kind][1])
        scales, minimums = _six_bits(b[:, 4:16])
        with np.errstate(over="ignore", invalid="ignore"):
            halves = [(_half(b, at) * part).astype(np.float16) for at, part in ((0, scales), (2, -minimums))]
        if not all(np.isfinite(half).all() for half in halves):
            raise ValueError(f"a {kind} tensor has a scale that is not finite")
        codes = _nibbles(b[:, 16:].reshape(-1, 4, 32))
        return BlockValues(codes.reshape(len(rows), -1), *(half.reshape(len(rows), -1) for half in halves))
    step = max(1, _CHUNK * _SIZES[kind][1] // (_SIZES[kind][0] * rows.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):  # round_blocks refuses what comes of it
        parts = [round_blocks(dequantise(kind, rows[at : at + step]), ROUNDED[kind]) for at in range(0, len(rows), step)]
    return BlockValues(np.concatenate([p.codes for p in parts]), np.concatenate([p.scales for p in parts]), None)
