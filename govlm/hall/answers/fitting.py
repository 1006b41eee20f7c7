"""Fits the weights of span extraction, and measures it: character F1, and the best single sentence by BM25 to compare with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.hall.answers.extract import best_span
from govlm.hall.answers.features import FEATURE_NAMES, Question, features
from govlm.hall.answers.spans import candidates, layout
from govlm.hall.retrieval.ranking import Ranker

__all__ = ["Row", "answer_of", "best_sentence", "character_f1", "fit"]

_SENTENCE = re.compile(r"[^。！？；\n]+[。！？；]?")
_NEAR = 0.9  # of the best F1 that a span can reach: such spans are taught as right
_STEPS, _BATCHES, _RATE, _DECAY = 15, 6, 0.03, 1e-3

F32 = NDArray[np.float32]


class Row(NamedTuple):
    """A question, the text that answers it, and the answer."""

    question: str
    text: str
    answer: str


def character_f1(found: str, wanted: str) -> float:
    """F1 of the characters of two answers, as CMRC 2018 counts them: letters and digits only, each as often as it stands there."""
    one, other = Counter(filter(str.isalnum, found)), Counter(filter(str.isalnum, wanted))
    common = (one & other).total()
    return 2 * common / (one.total() + other.total()) if common else 0.0


def best_sentence(row: Row, words: Callable[[str], list[str]]) -> str:
    """The sentence of the text that BM25 ranks first for the question. words: cuts a text. Needs bm25s."""
    import bm25s

    sentences = [match.group().strip() for match in _SENTENCE.finditer(row.text) if match.group().strip()]
    index = bm25s.BM25()
    index.index([words(sentence) or ["-"] for sentence in sentences], show_progress=False)
    return sentences[int(np.argmax(index.get_scores(words(row.question) or ["-"])))]


def fit(rows: Sequence[Row], seed: int = 0) -> Ranker:
    """A softmax over the spans of each text, taught with the spans that come near the answer, each by how near; Adam on the log
    likelihood with weight decay. The same rows give the same weights. ValueError without rows.
    """
    if not rows:
        raise ValueError("no rows to fit on")
    taught: list[tuple[F32, F32]] = []
    for row in rows:
        of = layout(row.text)
        starts, ends = candidates(row.text, of)
        near = _nearness(row, starts.tolist(), ends.tolist())
        right = np.maximum(near - _NEAR * near.max(initial=0), 0)
        if right.sum() > 0:
            taught.append((features(Question.of(row.question), row.text, of, starts, ends), (right / right.sum())))
    size = len(FEATURE_NAMES)
    scale = np.sqrt(np.mean([(x.astype(np.float64) ** 2).mean(axis=0) for x, _ in taught], axis=0)) + 1e-3
    weights, moment, square = np.zeros(size), np.zeros(size), np.zeros(size)
    order, step = np.random.default_rng(seed), 0
    for turn in range(_STEPS):
        for batch in np.array_split(order.permutation(len(taught)), _BATCHES):
            gradient = -_DECAY * weights
            for i in batch:
                x, right = taught[i]
                score = x @ (weights / scale).astype(np.float32)
                chance = np.exp(score - score.max())
                gradient += (right - chance / chance.sum()) @ x / scale / len(batch)
            step += 1
            moment = 0.9 * moment + 0.1 * gradient
            square = 0.99 * square + 0.01 * gradient**2
            rate = _RATE * (1 - turn / _STEPS)
            weights += rate * (moment / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
    return Ranker(FEATURE_NAMES, (weights / scale).astype(np.float32))


def _nearness(row: Row, starts: list[int], ends: list[int]) -> F32:
    """[N] character F1 of each span with the answer."""
    wanted = Counter(filter(str.isalnum, row.answer))
    letters = np.concatenate([[0], np.cumsum([char.isalnum() for char in row.text])])
    common = np.zeros(len(starts))
    for char, count in wanted.items():
        seen = np.concatenate([[0], np.cumsum([other == char for other in row.text])])
        common += np.minimum(seen[ends] - seen[starts], count)
    found: F32 = (2 * common / (letters[ends] - letters[starts] + wanted.total())).astype(np.float32)
    return found


def answer_of(row: Row, weights: Ranker | None = None) -> str:
    """The span that `extract` would give for the text as a whole."""
    found = best_span(row.question, row.text, weights)
    return "" if found is None else row.text[found[0] : found[1]]
