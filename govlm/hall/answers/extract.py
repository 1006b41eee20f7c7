"""The spans of policy passages that answer a question: chosen by a linear model (`features.py`), then the one that agrees best with
the others.

softmax of the scores is the chance that a span is the answer. Many spans differ by a clause, so the likeliest one is a lottery; given
is the span whose expected character F1 under these chances is highest (minimum Bayes risk).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.hall.answers.features import FEATURE_NAMES, Question, features
from govlm.hall.answers.spans import candidates, layout
from govlm.hall.catalogue.records import Document, Passage
from govlm.hall.retrieval.ranking import Ranker

__all__ = ["Extract", "Similarity", "Span", "best_span", "choose", "extract", "load", "sentence_around"]

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Similarity = Callable[[str, Sequence[str]], F32]  # question, clauses -> [C]; its feature weighs 0 until fitted with one
_WEIGHTS = Path(__file__).resolve().parents[2] / "assets" / "answers" / "spans.json"
_MUST_HOLD = (  # a question that only one form answers; such spans alone are weighed where there are any
    (re.compile(r"多少[万亿]?[钱元]|几块钱"), "sum"),
    (re.compile(r"(?:电话|热线)(?:号码)?(?:是什么|是多少|多少|号码)"), "phone"),
)
_ASKING = re.compile(r"[^。！？；?\n]+[？?]")
_STOPS = frozenset("。！？；\n")
_KEPT = 200  # likeliest spans that are compared with each other
_BEHIND = (
    1.5  # times ln(1 + rank of the passage): on passages that BM25 found for ncp_policy_qa, F1 is 0.03 higher than without
)
_LONGEST = 12_000  # characters of passages read for one question


class Span(NamedTuple):
    """document.text[start:end], in one passage."""

    document: Document
    passage: str
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.document.text[self.start : self.end]


class Extract(NamedTuple):
    """spans: the answer, in pieces where it runs over several passages. confidence: its expected F1, 0 to 1."""

    spans: tuple[Span, ...]
    confidence: float


@functools.cache
def load() -> Ranker:
    """The weights that come with the package."""
    return Ranker.load(_WEIGHTS, FEATURE_NAMES)


def best_span(
    question: str,
    text: str,
    weights: Ranker | None = None,
    similarity: Similarity | None = None,
    blocks: Sequence[int] = (),
    behind: F32 | None = None,
) -> tuple[int, int, float] | None:
    """(start, end, expected F1) in the text; None for a text without letters. blocks: places that no span may lie across.
    behind [characters]: taken off the score of a span that begins there.
    """
    of = layout(text)
    if not len(of.starts):
        return None
    starts, ends = candidates(text, of)
    if len(blocks):
        inside = np.searchsorted(blocks, starts, "right") == np.searchsorted(blocks, ends - 1, "right")
        starts, ends = starts[inside], ends[inside]
    if not len(starts):
        return None
    asking = [(m.start(), m.end()) for m in _ASKING.finditer(text)]  # an official's own question answers nothing
    if asking:
        lows, highs = np.array(asking, np.int64).T
        before = np.searchsorted(lows, ends, "left")  # questions that begin before the span ends
        clear = (before == 0) | (highs[np.maximum(before - 1, 0)] <= starts)
        if clear.any():
            starts, ends = starts[clear], ends[clear]
    for asks, form in _MUST_HOLD:
        if asks.search(question):
            marks = sorted((s, e) for name, s, e in of.typed if name == form)
            held = np.array(
                [any(s <= low and high <= e for low, high in marks) for s, e in zip(starts, ends, strict=True)], np.bool_
            )
            if held.any():
                starts, ends = starts[held], ends[held]
    alike = None if similarity is None else similarity(question, [text[s:e] for s, e in zip(of.starts, of.ends, strict=True)])
    scores = (weights or load()).scores(features(Question.of(question), text, of, starts, ends, alike))
    if behind is not None:
        scores = scores - behind[starts]
    chosen, expected = choose(text, starts, ends, scores)
    return int(starts[chosen]), int(ends[chosen]), expected


def choose(text: str, starts: I64, ends: I64, scores: F32) -> tuple[int, float]:
    """(number of the span with the highest expected F1, that F1), among the likeliest."""
    kept = np.argsort(-scores, kind="stable")[:_KEPT]
    chance = np.exp(scores[kept] - scores[kept[0]])
    chance /= chance.sum()
    letters = np.concatenate([[0], np.cumsum([char.isalnum() for char in text])])
    low, high = starts[kept], ends[kept]
    first = np.maximum(low[:, None], low[None])
    last = np.maximum(np.minimum(high[:, None], high[None]), first)
    size = letters[high] - letters[low]
    agreement = 2 * (letters[last] - letters[first]) / np.maximum(size[:, None] + size[None], 1)
    expected = agreement @ chance
    best = int(expected.argmax())
    return int(kept[best]), float(expected[best])


def extract(
    question: str,
    passages: Sequence[tuple[Document, str]],
    weights: Ranker | None = None,
    similarity: Similarity | None = None,
) -> Extract | None:
    """The answer among (document, id of a passage), best first; None when they hold no text. ValueError for an id that is none.

    Neighbouring passages of a document are read as one, in the document's order; an answer may run on from one to the next.
    """
    runs = _runs(passages)
    rank = {(document.code, name): i for i, (document, name) in reversed([*enumerate(passages)])}
    text, blocks, pieces = "", [], []
    behind: list[float] = []
    for document, run in runs:
        for entry in run:
            read = document.text[entry.start : entry.end][: max(_LONGEST - len(text), 0)]
            pieces.append((len(text), len(read), document, entry))
            text += read + "\n"
            behind += [_BEHIND * math.log1p(rank[document.code, entry.id])] * (len(read) + 1)
        blocks.append(len(text))
    found = best_span(question, text, weights, similarity, blocks, np.array(behind, np.float32))
    if found is None:
        return None
    start, end, confidence = found
    spans = []
    for at, size, document, entry in pieces:
        low, high = max(start, at), min(end, at + size)
        low, high = _trimmed(text, low, high)
        if low < high:
            spans.append(Span(document, entry.id, entry.start + low - at, entry.start + high - at))
    return Extract(tuple(spans), confidence) if spans else None


def sentence_around(span: Span) -> tuple[int, int]:
    """[start, end) of the sentences, within the passage, that hold the span; with the sign that ends them."""
    entry = next(entry for entry in span.document.passages if entry.id == span.passage)
    text = span.document.text
    start, end = span.start, span.end
    while start > entry.start and text[start - 1] not in _STOPS:
        start -= 1
    while end < entry.end and text[end - 1] not in _STOPS:
        end += 1
    return _trimmed(text, start, end)


def _trimmed(text: str, low: int, high: int) -> tuple[int, int]:
    while low < high and text[low].isspace():
        low += 1
    while low < high and text[high - 1].isspace():
        high -= 1
    return low, high


def _runs(passages: Sequence[tuple[Document, str]]) -> list[tuple[Document, list[Passage]]]:
    """Documents in the order of their best passage; of each, its passages in order, cut where one between them is left out."""
    documents: dict[str, tuple[Document, set[str]]] = {}
    for document, name in passages:
        documents.setdefault(document.code, (document, set()))[1].add(name)
    runs: list[tuple[Document, list[Passage]]] = []
    for document, names in documents.values():
        if unknown := names - {entry.id for entry in document.passages}:
            raise ValueError(f"{document.code}: there is no passage {', '.join(map(repr, sorted(unknown)))}")
        following = False
        reached = 0
        for entry in document.passages:
            if entry.id in names and entry.start >= reached:  # a paragraph within an article that is there whole adds nothing
                if following:
                    runs[-1][1].append(entry)
                else:
                    runs.append((document, [entry]))
                following, reached = True, entry.end
            elif entry.id not in names and entry.start >= reached:
                following = False
    return runs
