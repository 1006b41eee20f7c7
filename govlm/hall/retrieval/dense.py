"""Sentence vectors in 8 bits: scanned exactly, every query meeting every vector (csrc/nn/dense.c); beyond 100,000 of them, a graph of
neighbours (usearch) finds the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from govlm._native import core
from govlm.quantised import pack, round_weights

__all__ = ["LEVELS", "LIMIT", "NEAREST", "Neighbours", "VectorSet", "Vectors", "make_vectors", "open_vectors"]

LIMIT = 100_000  # vectors that are scanned exactly
NEAREST = 1000  # that a graph finds
_GROUP, LEVELS = 64, 192
_FILES = ("vectors.safetensors", "vectors.usearch")
F32 = NDArray[np.float32]


class VectorSet(Protocol):
    """Vectors of length 1 that can be asked and kept."""

    def scores(self, queries: F32) -> F32:
        """[Q, N] inner products with queries [Q, H]."""

    def save(self, folder: Path) -> None: ...


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
        codes, scales = round_weights(np.ascontiguousarray(vectors, np.float32), LEVELS)
        packed = pack(codes, scales, None, _GROUP, LEVELS)
        return cls(packed.panels, packed.sums, packed.scales, len(vectors))

    def scores(self, queries: F32) -> F32:
        """[Q, N] inner products with queries [Q, H], within 1 % of float32's for vectors of length 1."""
        found: F32 = core.dense_scores(
            np.ascontiguousarray(queries, np.float32), self.panels, self.sums, self.scales, self.count, _GROUP, LEVELS
        )
        return found

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        count = np.array([self.count], np.int64)
        save_file({"panels": self.panels, "sums": self.sums, "scales": self.scales, "count": count}, folder / _FILES[0])

    @classmethod
    def open(cls, file: Path) -> Vectors:
        from safetensors.numpy import load_file

        arrays = load_file(file)
        return cls(arrays["panels"], arrays["sums"], arrays["scales"], int(arrays["count"][0]))


class Neighbours:
    """The NEAREST vectors of a query and their inner products; 0 for all others."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        graph.expansion_search = 2 * NEAREST  # a file does not keep it

    @classmethod
    def make(cls, vectors: F32) -> Neighbours:
        graph = _usearch().Index(ndim=vectors.shape[1], metric="ip", dtype="i8", connectivity=16)
        graph.add(
            np.arange(len(vectors)), np.ascontiguousarray(vectors, np.float32), threads=1
        )  # one: the same graph each time
        return cls(graph)

    def scores(self, queries: F32) -> F32:
        found = np.zeros((len(queries), len(self._graph)), np.float32)
        for row, query in zip(found, queries, strict=True):
            matches = self._graph.search(np.ascontiguousarray(query, np.float32), NEAREST, threads=1)
            row[matches.keys.astype(np.int64)] = -matches.distances / 127**2  # of vectors of length 127
        return found

    def save(self, folder: Path) -> None:
        self._graph.save(str(folder / _FILES[1]))

    @classmethod
    def open(cls, file: Path) -> Neighbours:
        return cls(_usearch().Index.restore(str(file), view=True))


def make_vectors(vectors: F32) -> VectorSet:
    """vectors [N, H] of length 1."""
    return Vectors.make(vectors) if len(vectors) <= LIMIT else Neighbours.make(vectors)


def open_vectors(folder: Path) -> VectorSet:
    """What `save` wrote there."""
    exact, graph = (folder / name for name in _FILES)
    return Vectors.open(exact) if exact.exists() else Neighbours.open(graph)


def _usearch() -> Any:
    try:
        import usearch.index
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'more than 100,000 passages need usearch: pip install "govlm[hall-large]"', name="usearch"
        ) from None
    return usearch.index
