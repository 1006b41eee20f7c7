"""One score from many features: a linear model, fitted so that softmax over the entries gives the chance that each is meant."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranker", "fit"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Ranker:
    """score = features . weights. The names say which features they are for."""

    names: tuple[str, ...]
    weights: F32

    def scores(self, features: F32) -> F32:
        """[entries] of features [entries, len(names)]."""
        found: F32 = features @ self.weights
        return found

    def save(self, path: Path) -> None:
        values = {name: round(float(weight), 4) for name, weight in zip(self.names, self.weights, strict=True)}
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path, names: Sequence[str]) -> Ranker:
        """ValueError when the file is for other features."""
        values = json.loads(path.read_text("utf-8"))
        if list(values) != list(names):
            raise ValueError(f"{path}: weights for other features than this version has; fit them again")
        return cls(tuple(names), np.array(list(values.values()), np.float32))


def fit(
    names: Sequence[str], queries: Sequence[tuple[F32, NDArray[np.bool_]]], decay: float = 1e-3, passes: int = 30
) -> Ranker:
    """queries: (features [entries, F], which entries are right [entries]). Newton's method on the mean of -ln p(right), plus
    decay * |weights of features at scale 1|² / 2. Queries without a right entry teach nothing. ValueError when none has one.
    """
    taught = [(features.astype(np.float64), right) for features, right in queries if right.any()]
    if not taught:
        raise ValueError("no query has a right entry")
    scale = np.sqrt(np.mean([(f**2).mean(axis=0) for f, _ in taught], axis=0)) + 1e-6
    taught = [(features / scale, right) for features, right in taught]

    def loss(weights: F64) -> float:
        chances = [float(_softmax(x @ weights)[right].sum()) for x, right in taught]
        return float(-np.log(np.maximum(chances, 1e-300)).mean() + decay * weights @ weights / 2)

    weights, now = np.zeros(len(names)), math.inf
    for _ in range(passes):
        gradient, curvature = decay * weights, decay * np.eye(len(names))
        for x, right in taught:
            chance = _softmax(x @ weights)
            target = np.where(right, chance, 0.0)
            target = target / target.sum() if target.sum() > 0 else right / right.sum()
            gradient += x.T @ (chance - target) / len(taught)
            mean = chance @ x
            curvature += ((x.T * chance) @ x - np.outer(mean, mean)) / len(taught)
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(names)), gradient)
        step *= min(1.0, 10.0 / (float(np.abs(step).max()) + 1e-12))
        before, now = now, loss(weights - step)
        while now > before and float(np.abs(step).max()) > 1e-6:  # several right entries: the loss need not be convex
            step /= 2
            now = loss(weights - step)
        weights -= step
        if before - now < 1e-6:
            break
    return Ranker(tuple(names), (weights / scale).astype(np.float32))


def _softmax(scores: F64) -> F64:
    powers = np.exp(scores - scores.max())
    found: F64 = powers / powers.sum()
    return found
