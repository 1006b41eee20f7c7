"""How good sentence embeddings are: Spearman's rank correlation on scored pairs, R@k and MRR on queries against a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.train.losses import normalise_rows, product

__all__ = ["average_ranks", "retrieval_report", "spearman"]

_BLOCK = 256  # queries whose scores are held at a time


def average_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks from 1, equal values share the mean of theirs. [N] -> [N]"""
    values = np.asarray(values)
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[which.reshape(-1)]


def spearman(first: Sequence[float] | NDArray[Any], second: Sequence[float] | NDArray[Any]) -> float:
    """Spearman's correlation of two lists of numbers, ties at their mean rank. ValueError when one has no variance."""
    a, b = average_ranks(np.asarray(first, np.float64)), average_ranks(np.asarray(second, np.float64))
    if a.shape != b.shape:
        raise ValueError(f"spearman needs as many numbers on both sides, not {len(a)} and {len(b)}")
    a, b = a - a.mean() if len(a) else a, b - b.mean() if len(b) else b
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    if scale == 0:
        raise ValueError("spearman needs numbers that differ: on one side all are the same")
    return float((a * b).sum() / scale)


def retrieval_report(
    queries: NDArray[Any],
    pool: NDArray[Any],
    relevant: Sequence[NDArray[np.int64]],
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
    """How well cosines find what belongs to each query: {"R@1", …, "MRR", "queries", "pool"}.

    queries: [Q, H], pool: [P, H] embeddings; relevant[q]: the rows of the pool that are right, one or several. R@k is the
    share of queries with a right row among the first k, MRR the mean of 1 / the place of the first one. Of equal scores the
    earlier row of the pool stands first. ValueError for a query without a right row.
    """
    if len(queries) == 0 or len(pool) == 0:
        raise ValueError("there is nothing to search: no queries or an empty pool")
    u, v = normalise_rows(queries)[0], normalise_rows(pool)[0]
    places = np.empty(len(u), np.int64)
    for start in range(0, len(u), _BLOCK):
        scores = product(u[start : start + _BLOCK], v.T)
        for row, s in enumerate(scores, start):
            if len(relevant[row]) == 0:
                raise ValueError(f"query {row} has no right row in the pool")
            best = _first(s, relevant[row])
            places[row] = 1 + (s > s[best]).sum() + (s[:best] == s[best]).sum()
    report = {f"R@{k}": float((places <= k).mean()) for k in ks}
    return {**report, "MRR": float((1.0 / places).mean()), "queries": len(u), "pool": len(v)}


def _first(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> int:
    """The row that ranks first among `rows`."""
    rows = np.sort(rows)
    return int(rows[int(np.argmax(scores[rows]))])
