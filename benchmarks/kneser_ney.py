"""A peer for language models: the interpolated n-gram model with modified Kneser-Ney smoothing, on the same tokens.

Chen and Goodman, An empirical study of smoothing techniques for language modeling (TR-10-98, Harvard, 1998), section 3: three
discounts an order from its counts of counts, lower orders from the numbers of distinct tokens on the left, the lowest mixed
with the uniform distribution. A document begins with order - 1 boundaries, which are conditions only, never predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["KneserNey"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


@dataclass
class _Order:
    """One order n. keys: ascending, context * (V + 1) + token of every n-gram; counts [n-grams]; of every (n-1)-gram as a
    context: total count [contexts] and gamma [contexts], the mass that discounting frees."""

    keys: I64
    counts: I64
    discounts: F64
    totals: I64
    gamma: F64


class KneserNey:
    """documents: arrays of token ids below vocab_size; order: 5 looks four tokens back."""

    def __init__(self, documents: Sequence[NDArray[np.int32]], vocab_size: int, order: int = 5) -> None:
        self.vocab_size, self.order = vocab_size, order
        stream, real = self._stream(documents)
        here = np.zeros(len(stream), np.int64)  # the n-gram that ends at each place, of the order before
        keys: list[I64] = []
        numbers: list[I64] = []
        for _ in range(order):
            key = np.concatenate([[0], here[:-1]]) * (vocab_size + 1) + stream
            unique, here = np.unique(key, return_inverse=True)
            keys.append(unique)
            numbers.append(here)
        places = np.flatnonzero(real)
        self.orders: list[_Order] = []
        above: I64 | None = None  # for each n-gram of the order above: one place where it ends
        for n in range(order - 1, -1, -1):
            mine = numbers[n][places if above is None else above]  # tokens, or types of the order above: each counts once
            counts = np.bincount(mine, minlength=len(keys[n]))
            contexts = 1 if n == 0 else len(keys[n - 1])
            self.orders.insert(0, self._order(keys[n], counts, contexts))
            first = np.full(len(keys[n]), -1, np.int64)
            first[numbers[n][places]] = places
            above = first[first >= 0]

    def _stream(self, documents: Sequence[NDArray[np.int32]]) -> tuple[I64, NDArray[np.bool_]]:
        """All documents behind their boundaries (the id vocab_size), and which places hold a token."""
        edge = np.full(self.order - 1, self.vocab_size, np.int64)
        stream = np.concatenate([part for d in documents for part in (edge, np.asarray(d, np.int64))])
        return stream, stream < self.vocab_size

    def _order(self, keys: I64, counts: I64, contexts: int) -> _Order:
        n1, n2, n3, n4 = ((counts == k).sum() for k in (1, 2, 3, 4))
        y = n1 / max(n1 + 2 * n2, 1)
        discounts = np.array([0.0, 1 - 2 * y * n2 / max(n1, 1), 2 - 3 * y * n3 / max(n2, 1), 3 - 4 * y * n4 / max(n3, 1)])
        discounts = np.clip(discounts, 0.0, [0.0, 1.0, 2.0, 3.0])
        context = keys // (self.vocab_size + 1)
        freed = np.bincount(context, discounts[np.minimum(counts, 3)], contexts)
        totals = np.bincount(context, counts, contexts).astype(np.int64)
        return _Order(keys, counts, discounts, totals, freed / np.maximum(totals, 1))

    def probabilities(self, documents: Sequence[NDArray[np.int32]]) -> F64:
        """The probability of every token of the documents, in order."""
        stream, real = self._stream(documents)
        result = np.full(len(stream), 1.0 / self.vocab_size)
        here = np.zeros(len(stream), np.int64)
        for level in self.orders:
            before = np.concatenate([[0], here[:-1]])
            key = np.where(before < 0, -1, before * (self.vocab_size + 1) + stream)
            place = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
            found = level.keys[place] == key
            here = np.where(found, place, -1)
            known = (before >= 0) & (level.totals[np.maximum(before, 0)] > 0)
            before = np.where(known, before, 0)
            counts = np.where(found, level.counts[place], 0)
            own = (counts - level.discounts[np.minimum(counts, 3)]) / np.maximum(level.totals[before], 1)
            result = np.where(known, own + level.gamma[before] * result, result)
        return result[real]

    def perplexity(self, documents: Sequence[NDArray[np.int32]]) -> float:
        """exp of the mean negative log probability of the documents' tokens."""
        return float(np.exp(-np.log(self.probabilities(documents)).mean()))
