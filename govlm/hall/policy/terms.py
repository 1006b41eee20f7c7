"""Key terms of a text: candidates (`candidates.py`) ranked by a fitted linear model, no two of them one inside the other."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from govlm.hall.catalogue.records import Document
from govlm.hall.policy.candidates import FEATURE_NAMES, Context, candidates, title_of
from govlm.hall.policy.source import source
from govlm.hall.retrieval.ranking import Ranker

__all__ = ["Keyword", "Model", "keywords", "load"]

_ASSETS = Path(__file__).resolve().parents[2] / "assets" / "policy"


@dataclass(frozen=True)
class Keyword:
    """source[start:end], where the term first stands. score: how likely a candidate it is beside the best one, 0 to 1."""

    text: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class Model:
    """weights of the features, and what single characters say at the borders of a term."""

    weights: Ranker
    context: Context

    def save(self, weights: Path, context: Path) -> None:
        """Writes two files of JSON."""
        self.weights.save(weights)
        rows = [
            f"{json.dumps(char, ensure_ascii=False)}: {json.dumps(list(row))}" for char, row in sorted(self.context.items())
        ]
        context.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


@functools.cache
def load() -> Model:
    """The model that comes with the package."""
    context = json.loads((_ASSETS / "borders.json").read_text("utf-8"))
    return Model(Ranker.load(_ASSETS / "terms.json", FEATURE_NAMES), {char: tuple(row) for char, row in context.items()})


def keywords(document: Document | str, k: int = 5, model: Model | None = None) -> list[Keyword]:
    """At most k terms, best first. A bare text's title is its first line, or its last part, where that reads as one.

    ValueError for k below 1, TypeError for what is neither a text nor a Document.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more, not {k}")
    of = source(document)
    at = of.text.find(of.title) if of.title else -1
    title = (at, at + len(of.title)) if at >= 0 else title_of(of.text)
    model = model or load()
    found = candidates(of.text, title, model.context)
    if found is None:
        return []
    scores = model.weights.scores(found.features)
    chosen: list[Keyword] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        start, end = int(found.starts[i]), int(found.ends[i])
        term = of.text[start:end]
        if any(term in other.text or other.text in term for other in chosen):
            continue
        chosen.append(Keyword(term, math.exp(float(scores[i] - scores.max())), start, end))
        if len(chosen) == k:
            break
    return chosen
