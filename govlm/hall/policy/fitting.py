"""Fits the salience of sentences, and what it is compared with: the first sentences of a text, and TextRank."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from govlm.hall.policy.salience import F64, FEATURE_NAMES, features, text_rank, vectors
from govlm.hall.policy.source import sentences, source
from govlm.hall.policy.summary import LENGTH, pick
from govlm.hall.retrieval.ranking import Ranker
from govlm.train.rouge import tokens

__all__ = ["Row", "fit", "lead", "ranked"]

_DECAY = 3.0  # ridge, in rows: a text or two teach little


class Row(NamedTuple):
    """A text and its reference summary."""

    title: str
    text: str
    summary: str


def lead(text: str, length: int = LENGTH) -> str:
    """The first sentences that fit."""
    units = sentences(text)
    return _joined(pick(units, -np.arange(len(units), dtype=np.float64), None, length)) if units else ""


def ranked(text: str, length: int = LENGTH) -> str:
    """The sentences that TextRank puts first, as many as fit."""
    units = sentences(text)
    return _joined(pick(units, text_rank(vectors([unit.text for unit in units])), None, length)) if units else ""


def _joined(chosen: Sequence[object]) -> str:
    return "\n".join(unit.text for unit in sorted(chosen, key=lambda unit: unit.start))  # type: ignore[attr-defined]


def fit(rows: Sequence[Row], decay: float = _DECAY) -> Ranker:
    """Ridge regression of how much of a sentence stands in the reference (the share of its pairs of tokens, each text's sentences
    weighing the same together). ValueError without rows.
    """
    if not rows:
        raise ValueError("no rows to fit on")
    blocks: list[F64] = []
    targets: list[F64] = []
    for row in rows:
        of = source(row.text)
        units = sentences(of)
        if not units:
            continue
        x, _ = features(units, row.title, len(row.text))
        y = np.array([_share(unit.text, row.summary) for unit in units])
        weight = np.sqrt(1 / len(units))
        blocks.append(x * weight)
        targets.append(y * weight)
    x, y = np.concatenate(blocks), np.concatenate(targets)
    scale = np.sqrt((x**2).mean(axis=0)) + 1e-3
    x = x / scale
    penalty = decay * (x**2).sum() / x.shape[1] / max(len(rows), 1) * np.eye(x.shape[1])
    weights = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    return Ranker(FEATURE_NAMES, (weights / scale).astype(np.float32))


def _share(text: str, wanted: str) -> float:
    ours, theirs = (Counter(itertools.pairwise(found)) for found in (tokens(text), tokens(wanted)))
    return (ours & theirs).total() / max(ours.total(), 4)
