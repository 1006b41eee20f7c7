"""Weights in blocks of 32 inputs that share a scale, or float32 as it is: rounding, packing, and what GGUF files hold.

A weight [n, k] in `bits` 4 is (code - 8) * scale, with a minimum code * scale + minimum, in `bits` 8 (code - 128) * scale; scale
and minimum are IEEE halves, one for each output and 32 inputs. These are GGUF's Q4_0, Q4_1 and Q8_0, value for value, in
another order: the one that csrc/kernels/kernels.h describes at gv_blocks, which AVX2, AVX-512 VNNI and the scalar kernels share.
In `bits` 32 nothing is rounded: the same weights in the order in which a product reads them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "GGUF_BYTES",
    "BlockValues",
    "Blocks",
    "dequantise",
    "from_gguf",
    "pack",
    "pack_floats",
    "record_bytes",
    "round_blocks",
    "unpack",
]  # fmt: skip

BLOCK, PANEL = 32, 16
GGUF_BYTES = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}  # of one block of 32
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
F16 = NDArray[np.float16]
_CHUNK = 1 << 16  # blocks rounded at once


class Blocks(NamedTuple):
    """One packed parameter, as the core's bind_blocks takes it: data [slices * panels * blocks * record_bytes]."""

    data: U8
    bits: int
    minimum: bool


class BlockValues(NamedTuple):
    """The same before it is packed: codes [n, blocks * 32] (the padding is any), scales and minimums [n, blocks]."""

    codes: U8
    scales: F16
    minimums: F16 | None


def record_bytes(bits: int, minimum: bool) -> int:
    """Bytes of 16 outputs times 32 inputs."""
    return PANEL * BLOCK * bits // 8 + PANEL * (0 if bits == 32 else 4 if minimum else 2)


def pack_floats(weights: F32, slices: int = 1) -> Blocks:
    """Weights [n, k], whose n outputs are `slices` equal parts, as float32 panels [n // 16][k][16]; zeros where there are none."""
    n, k = weights.shape
    parts = np.pad(weights.reshape(slices, n // slices, k), ((0, 0), (0, -(n // slices) % PANEL), (0, -k % BLOCK)))
    panels: Any = parts.reshape(slices, -1, PANEL, parts.shape[2]).transpose(0, 1, 3, 2)
    return Blocks(np.ascontiguousarray(panels, dtype="<f4").reshape(-1).view(np.uint8), 32, False)


def pack(values: BlockValues, bits: int, slices: int = 1) -> Blocks:
    """values of a weight whose n outputs are `slices` equal parts -> the layout of the kernels."""
    codes, scales, minimums = values
    n, blocks = scales.shape
    halves = [scales] if minimums is None else [scales, minimums]
    parts: list[U8] = []
    for s in range(slices):
        rows = slice(s * (n // slices), (s + 1) * (n // slices))
        spare = -(n // slices) % PANEL
        # [panel, lane, block, step of four inputs, input]
        five: Any = np.pad(codes[rows], ((0, spare), (0, 0))).reshape(-1, PANEL, blocks, 8, 4).transpose(0, 2, 3, 1, 4)
        if bits == 4:
            five = five[:, :, 0::2] | five[:, :, 1::2] << 4
        pieces = [np.ascontiguousarray(five, dtype=np.uint8).reshape(five.shape[0], blocks, -1)]
        for half in halves:
            wide = np.pad(half[rows].astype("<f2"), ((0, spare), (0, 0))).reshape(-1, PANEL, blocks).transpose(0, 2, 1)
            pieces.append(np.ascontiguousarray(wide).view(np.uint8))
        parts.append(np.concatenate(pieces, axis=2).reshape(-1))
    return Blocks(np.concatenate(parts), bits, minimums is not None)


def unpack(packed: Blocks, n: int, k: int, slices: int = 1) -> BlockValues:
    """The way back from `pack`."""
    blocks, size = -(-k // BLOCK), record_bytes(packed.bits, packed.minimum)
    rows, body = n // slices, PANEL * BLOCK * packed.bits // 8
    records = packed.data.reshape(slices, -(-rows // PANEL), blocks, size)
    five = records[..., :body].reshape(*records.shape[:3], 8 * packed.bits // 8, PANEL, 4)
    if packed.bits == 4:
        five = np.stack([five & 15, five >> 4], axis=4).reshape(*records.shape[:3], 8, PANEL, 4)
    codes = five.transpose(0, 1, 4, 2, 3, 5).reshape(slices, -1, blocks * BLOCK)[:, :rows].reshape(n, -1)
    halves = []
    for at in range(body, size, 2 * PANEL):
        half = np.ascontiguousarray(records[..., at : at + 2 * PANEL]).view("<f2")
        halves.append(half.transpose(0, 1, 3, 2).reshape(slices, -1, blocks)[:, :rows].reshape(n, blocks).astype(np.float16))
    return BlockValues(codes, halves[0], halves[1] if packed.minimum else None)


def dequantise(packed: Blocks, n: int, k: int, slices: int = 1) -> F32:
    """The float32 matrix [n, k] that the blocks stand for, as ggml computes it."""
    if packed.bits == 32:
        panels = packed.data.view("<f4").reshape(slices, -1, -(-k // BLOCK) * BLOCK, PANEL).transpose(0, 1, 3, 2)
        rows = panels.reshape(slices, -1, panels.shape[3])[:, : n // slices, :k]
        return np.ascontiguousarray(rows, dtype=np.float32).reshape(n, k)
    codes, scales, minimums = unpack(packed, n, k, slices)
    whole = codes.reshape(n, -1, BLOCK).astype(np.float32)
    if minimums is None:
        whole -= np.float32(8 if packed.bits == 4 else 128)
    whole *= scales[:, :, None].astype(np.float32)
    if minimums is not None:
        whole += minimums[:, :, None].astype(np.float32)
    return np.ascontiguousarray(whole.reshape(n, -1)[:, :k])


# ---- GGUF ------------------------------------------------------------------------------------------------------------------


def from_gguf(kind: str, rows: U8, slices: int = 1) -> Blocks:
    """The tensor of a GGUF file, rows [n, blocks * GGUF_BYTES[kind]] of bytes, in the kernels' order: not a value changes.

    kind: Q4_0 (scale; byte j holds inputs j and j + 16), Q4_1 (scale, minimum, the same) or Q8_0 (scale, int8), as in ggml's
    ggml-common.h. Errors: ValueError for another kind, rows that are no whole blocks, or a scale that is not finite.
    """
    if kind not in GGUF_BYTES:
        raise ValueError(f"tensors of type {kind} cannot stay in blocks: only {', '.join(GGUF_BYTES)}")
    size = GGUF_BYTES[kind]
    if rows.ndim != 2 or rows.dtype != np.uint8 or rows.shape[1] % size:
        raise ValueError(f"a {kind} tensor has rows of whole blocks of {size} bytes, not {rows.dtype} {list(rows.shape)}")
    blocks = rows.reshape(rows.shape[0], -1, size)
    head = 4 if kind == "Q4_1" else 2
    halves = np.ascontiguousarray(blocks[..., :head]).view("<f2").astype(np.float16)
    if not np.isfinite(halves).all():
        raise ValueError(f"a {kind} tensor has a scale that is not finite")
    body = blocks[..., head:]
    codes = body ^ np.uint8(128) if kind == "Q8_0" else np.concatenate([body & 15, body >> 4], axis=2)
    values = BlockValues(codes.reshape(len(rows), -1), halves[..., 0], halves[..., 1] if kind == "Q4_1" else None)
    return pack(values, 8 if kind == "Q8_0" else 4, slices)


# ---- rounding --------------------------------------------------------------------------------------------------------------


def round_blocks(weights: F32, bits: int, minimum: bool = False, importance: F32 | None = None) -> BlockValues:
    """[n, k] float32 -> codes and scales. importance [k] weighs the squared error of each input (its mean square); None = 1.

    8 bits: the largest value of a block is 127 steps. 4 bits: of several scales, each refined by least squares, the one with the
    least error. A block of zeros is exact. Errors: ValueError when a scale is beyond what a half holds.
    """
    n, k = weights.shape
    blocks = -(-k // BLOCK)
    rows = np.pad(weights, ((0, 0), (0, blocks * BLOCK - k))).reshape(-1, BLOCK)
    heavy = (
        np.ones(k, np.float32) if importance is None else importance + np.float32(1e-3) * importance.mean() + np.float32(1e-30)
    )
    heavy = np.pad(heavy, (0, blocks * BLOCK - k)).reshape(blocks, BLOCK)
    codes = np.empty(rows.shape, np.uint8)
    scales, least = np.empty(len(rows), np.float16), np.empty(len(rows), np.float16)
    top = float(np.abs(weights).max(initial=0.0))
    if not top <= 65504 * (7 if bits == 4 else 127):
        raise ValueError("weights are too large for scales of half precision")
    for begin in range(0, len(rows), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        if bits == 8:
            codes[part], scales[part] = _round8(rows[part])
            continue
        h = heavy[np.arange(begin, begin + len(rows[part])) % blocks]
        codes[part], scales[part], least[part] = _search4(rows[part], h, minimum)
    shape = (n, blocks)
    return BlockValues(codes.reshape(n, -1), scales.reshape(shape), least.reshape(shape) if minimum else None)


def _round8(w: F32) -> tuple[U8, F16]:
    scale = (np.abs(w).max(axis=1) / np.float32(127)).astype(np.float16)
    codes = np.rint(w * _inverse(scale)[:, None]).clip(-127, 127) + 128
    return codes.astype(np.uint8), scale


def _inverse(scale: F16) -> F32:
    wide = scale.astype(np.float32)
    return np.divide(np.float32(1), wide, out=np.zeros_like(wide), where=wide != 0)


def _search4(w: F32, h: F32, minimum: bool) -> tuple[U8, F16, F16]:
    """w, h [blocks, 32] -> codes, scales and minimums (0 without)."""
    low, high = w.min(axis=1), w.max(axis=1)
    extreme = np.where(-low > high, low, high)
    best = np.full(len(w), np.inf, np.float32)
    codes = np.zeros(w.shape, np.uint8)
    scales, least = np.zeros(len(w), np.float16), np.zeros(len(w), np.float16)
    for step in np.linspace(0.7, 1.0, 7 if minimum else 9, dtype=np.float32):
        if minimum:
            middle, half = (low + high) / 2, (high - low) / 2 * step
            d, m = half / np.float32(7.5), middle - half
        else:  # the extreme is code 0, -8 steps; a little less than that for the others' sake
            d, m = extreme / np.float32(-8) * (step + np.float32(0.15)), np.zeros_like(low)
        for _ in range(2):
            d16 = d.clip(-65504, 65504).astype(np.float16)
            m16 = m.clip(-65504, 65504).astype(np.float16)
            c = np.rint((w - m16[:, None].astype(np.float32)) * _inverse(d16)[:, None])
            c = c.clip(0, 15) if minimum else c.clip(-8, 7)
            back = c * d16[:, None].astype(np.float32) + m16[:, None].astype(np.float32)
            error = np.einsum("ij,ij->i", h, (w - back) ** 2)
            better = error < best
            best[better], scales[better], least[better] = error[better], d16[better], m16[better]
            codes[better] = (c[better] + (0 if minimum else 8)).astype(np.uint8)
            d, m = _least_squares(w, h, c, d, m, minimum)
    return codes, scales, least


def _least_squares(w: F32, h: F32, c: F32, d: F32, m: F32, minimum: bool) -> tuple[F32, F32]:
    """The scale (and minimum) that fit w best with these codes; the old ones where they are not determined."""
    cc, cw = np.einsum("ij,ij,ij->i", h, c, c), np.einsum("ij,ij,ij->i", h, c, w)
    if not minimum:
        return np.divide(cw, cc, out=d.copy(), where=cc > 0), m
    one, c1, w1 = h.sum(axis=1), np.einsum("ij,ij->i", h, c), np.einsum("ij,ij->i", h, w)
    determinant = one * cc - c1 * c1
    good = determinant > 1e-6 * one * cc
    slope = np.divide(one * cw - c1 * w1, determinant, out=d.copy(), where=good)
    base: Any = np.divide(cc * w1 - c1 * cw, determinant, out=m.copy(), where=good)
    return slope, base
