"""Figures from what each case gave, with confidence intervals by the percentile bootstrap.

A statistic is a function of the rows that the cases gave and of how often each case counts: weights [resamples, cases], all of them 1
for the figure itself. So one definition gives the figure, its interval, and, with the same weights for two systems, the interval of
their difference (the paired bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16).
Where every case is right, the interval is a point: the bootstrap knows no case that it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "STATISTICS", "Difference", "Estimate", "difference", "estimate", "reliability"]

F64 = NDArray[np.float64]
Rows = Sequence[Any]
BINS = 10  # of the calibration error, of equal width
SEED = 20240601
_ENDS = (2.5, 97.5)  # percentiles: an interval of 95 %


class Estimate(NamedTuple):
    """A figure and its interval; NaN where nothing can be said (no case counts)."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """First less second. clear: the interval does not hold 0."""

    value: float
    low: float
    high: float
    clear: bool


def _share(above: F64, below: F64) -> F64:
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def _numbers(rows: Rows, width: int) -> F64:
    return np.asarray(rows, np.float64).reshape(len(rows), width)


def _mean(rows: Rows, weights: F64) -> F64:
    """rows: a number a case."""
    return _share((weights @ _numbers(rows, 1))[:, 0], weights.sum(1))


def _sum(rows: Rows, weights: F64) -> F64:
    found: F64 = (weights @ _numbers(rows, 1))[:, 0]
    return found


def _accuracy(rows: Rows, weights: F64) -> F64:
    """rows: (wanted, found) labels."""
    return _mean([wanted == found for wanted, found in rows], weights)


def _macro_f1(rows: Rows, weights: F64) -> F64:
    """rows: (wanted, found) labels. The mean F1 of the labels that are wanted anywhere: a label that no case wants has no F1."""
    labels = sorted({wanted for wanted, _ in rows})
    place = {label: i for i, label in enumerate(labels)}
    wanted, found = (np.zeros((len(rows), len(labels))) for _ in range(2))
    for i, (right, given) in enumerate(rows):
        wanted[i, place[right]] = 1
        if given in place:
            found[i, place[given]] = 1
    support = weights @ wanted
    f1 = _share(2 * (weights @ (wanted * found)), support + weights @ found)
    present = support > 0
    return _share(np.where(present, f1, 0).sum(1), present.sum(1).astype(np.float64))


def _counted(rows: Rows, weights: F64) -> tuple[F64, F64, F64]:
    """rows: (right, wrongly found, missed), counted."""
    counts = weights @ _numbers(rows, 3)
    return counts[:, 0], counts[:, 1], counts[:, 2]


def _precision(rows: Rows, weights: F64) -> F64:
    right, wrong, _ = _counted(rows, weights)
    return _share(right, right + wrong)


def _recall(rows: Rows, weights: F64) -> F64:
    right, _, missed = _counted(rows, weights)
    return _share(right, right + missed)


def _f(beta: float) -> Callable[[Rows, F64], F64]:
    def score(rows: Rows, weights: F64) -> F64:
        right, wrong, missed = _counted(rows, weights)
        times = 1 + beta**2
        return _share(times * right, times * right + wrong + beta**2 * missed)

    return score


def _ratio(rows: Rows, weights: F64) -> F64:
    """rows: (right, all), counted."""
    counts = weights @ _numbers(rows, 2)
    return _share(counts[:, 0], counts[:, 1])


def _bins(rows: Rows) -> tuple[F64, F64]:
    """([cases, BINS] 1 where a case lies, [cases, 2] confidence and whether it was right)."""
    values = _numbers(rows, 2)
    where = np.clip((values[:, 0] * BINS).astype(np.int64), 0, BINS - 1)
    return np.eye(BINS)[where], values


def _calibration_error(rows: Rows, weights: F64) -> F64:
    """rows: (confidence, right). The expected calibration error (Guo et al., arXiv:1706.04599) in bins of equal width."""
    where, values = _bins(rows)
    gap = np.abs(weights @ (where * (values[:, 0] - values[:, 1])[:, None])).sum(1)
    return _share(gap, weights.sum(1))


STATISTICS: dict[str, Callable[[Rows, F64], F64]] = {
    "mean": _mean,
    "sum": _sum,
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "precision": _precision,
    "recall": _recall,
    "f1": _f(1),
    "f2": _f(2),
    "ratio": _ratio,
    "calibration_error": _calibration_error,
}


@lru_cache(maxsize=16)
def _weights(cases: int, resamples: int) -> F64:
    """[1 + resamples, cases]: each case once, then how often each is drawn."""
    drawn = np.random.default_rng(SEED).integers(0, cases, (resamples, cases))
    rows = np.arange(resamples)[:, None] * cases
    counts = np.bincount((drawn + rows).ravel(), minlength=resamples * cases).reshape(resamples, cases)
    return np.concatenate([np.ones((1, cases)), counts])


def estimate(statistic: str, rows: Rows, resamples: int = 1000) -> Estimate:
    """rows: one a case. The same rows give the same interval, always."""
    if not len(rows):
        return Estimate(float("nan"), float("nan"), float("nan"))
    values = STATISTICS[statistic](rows, _weights(len(rows), resamples))
    return Estimate(float(values[0]), *_interval(values[1:]))


def difference(statistic: str, first: Rows, second: Rows, resamples: int = 1000) -> Difference:
    """Of two systems on the same cases, in the same order."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} rows are not of the same cases")
    if not len(first):
        return Difference(float("nan"), float("nan"), float("nan"), False)
    weights = _weights(len(first), resamples)
    values = STATISTICS[statistic](first, weights) - STATISTICS[statistic](second, weights)
    low, high = _interval(values[1:])
    return Difference(float(values[0]), low, high, bool(low > 0 or high < 0))


def _interval(values: F64) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, _ENDS)
    return float(low), float(high)


def reliability(rows: Rows) -> list[tuple[int, float, float]]:
    """(cases, mean confidence, share that was right) of each bin that holds any. rows: (confidence, right)."""
    where, values = _bins(rows)
    found = []
    for inside in where.T.astype(bool):
        if inside.any():
            confidence, right = values[inside].mean(0)
            found.append((int(inside.sum()), float(confidence), float(right)))
    return found
