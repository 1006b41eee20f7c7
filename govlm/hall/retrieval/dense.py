"""Sentence vectors in 8 bits, scanned exactly: every query meets every vector (csrc/nn/dense.c)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from govlm._native import core
from govlm.quantised import pack, round_weights

__all__ = ["Vectors"]

_GROUP, _LEVELS = 64, 192
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Vectors:
    """`count` vectors, packed as govlm/quantised.py lays down: a quarter of their float32 size."""

    panels: NDArray[np.int8]
    sums: NDArray[np.int16]
    scales: F32
    count: int

    @classmethod
    def make(cls, vectors: F32) -> Vectors:
        """vectors [N, H]."""
        codes, scales = round_weights(np.ascontiguousarray(vectors, np.float32), _LEVELS)
        packed = pack(codes, scales, None, _GROUP, _LEVELS)
        return cls(packed.panels, packed.sums, packed.scales, len(vectors))

    def scores(self, queries: F32) -> F32:
        """[Q, N] inner products with queries [Q, H], within 1 % of float32's for vectors of length 1."""
        found: F32 = core.dense_scores(
            np.ascontiguousarray(queries, np.float32), self.panels, self.sums, self.scales, self.count, _GROUP, _LEVELS
        )
        return found

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """For a file."""
        return {f"{prefix}.{name}": getattr(self, name) for name in ("panels", "sums", "scales")}

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str, count: int) -> Vectors:
        panels, sums, scales = (arrays[f"{prefix}.{name}"] for name in ("panels", "sums", "scales"))
        return cls(panels, sums, scales, count)  # type: ignore[arg-type]
