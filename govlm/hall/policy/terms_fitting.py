"""Fits the ranking of key terms, and what it is compared with: TF-IDF of words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from govlm.hall.policy.candidates import FEATURE_NAMES, Context, candidates, title_of
from govlm.hall.policy.terms import Model
from govlm.hall.retrieval import ranking

__all__ = ["Row", "borders", "f1", "fit", "tf_idf"]

_SMOOTH = 4.0  # places of a character that are taken as seen before


class Row(NamedTuple):
    """A text and its key terms."""

    text: str
    terms: tuple[str, ...]


def f1(found: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of terms that are the same letter for letter."""
    common = len(set(found) & set(wanted))
    return 2 * common / (len(set(found)) + len(set(wanted))) if common else 0.0


def tf_idf(texts: Sequence[str], words: Callable[[str], list[str]], k: int = 5) -> list[list[str]]:
    """The k words of each text with the highest TF-IDF among these texts. words: cuts a text; those of one letter are left out."""
    cut = [[word for word in words(text) if len(word) > 1 and any(map(str.isalpha, word))] for text in texts]
    held = Counter(word for found in cut for word in set(found))
    return [
        sorted(count, key=lambda word: (-count[word] * math.log(len(texts) / held[word]), word))[:k]
        for count in map(Counter, cut)
    ]


def borders(rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
    """character -> logarithm of how much more often it is first, last, before, after a key term than anywhere in the texts."""
    anywhere: Counter[str] = Counter()
    at: tuple[Counter[str], ...] = (Counter(), Counter(), Counter(), Counter())
    for row in rows:
        anywhere.update(row.text)
        for term in row.terms:
            place = row.text.find(term)
            while term and place >= 0:
                stop = place + len(term)
                for counter, char in zip(
                    at, (term[0], term[-1], row.text[place - 1 : place], row.text[stop : stop + 1]), strict=True
                ):
                    counter[char] += 1
                place = row.text.find(term, stop)
    total = anywhere.total()
    shares = [counter.total() / max(total, 1) for counter in at]
    return {
        char: tuple(
            round(math.log((counter[char] + _SMOOTH * share) / (share * (count + _SMOOTH)) + 0.02), 2)
            for counter, share in zip(at, shares, strict=True)
        )
        for char, count in anywhere.items()
        if (count >= 5 and any(counter[char] for counter in at)) or count >= 40
    }


def fit(rows: Sequence[Row], decay: float = 1e-3) -> Model:
    """A softmax over the candidates of each text (`retrieval.ranking.fit`). The borders that it is taught with are those of the
    other half of the rows, so that it trusts them as far as they hold for texts that they were not counted on.
    """
    halves = (rows[::2], rows[1::2])
    queries = []
    for i in (0, 1):
        context: Context = borders(halves[1 - i])
        for row in halves[i]:
            found = candidates(row.text, title_of(row.text), context)
            if found is not None:
                wanted = set(row.terms)
                right = np.array([row.text[s:e] in wanted for s, e in zip(found.starts, found.ends, strict=True)])
                queries += [(found.features, right)] if right.any() else []
    return Model(ranking.fit(FEATURE_NAMES, queries, decay), borders(rows))
