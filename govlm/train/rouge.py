"""ROUGE of Chinese texts, character by character (Lin 2004): ROUGE-1, ROUGE-2 and ROUGE-L, F1.

White space and punctuation do not count. A run of digits or Latin letters is one token, so that 500 and 1500 share nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Rouge", "rouge", "tokens"]

_TOKEN = re.compile(r"[0-9]+(?:[.,][0-9]+)*|[A-Za-z]+|[^\W_]")


class Rouge(NamedTuple):
    """F1 of single tokens, of pairs, and of the longest common subsequence, 0 to 1."""

    one: float
    two: float
    longest: float


def tokens(text: str) -> list[str]:
    return [match.group().lower() for match in _TOKEN.finditer(text)]


def rouge(found: str, wanted: str) -> Rouge:
    """A text against one reference. Two texts without tokens: 0."""
    ours, theirs = tokens(found), tokens(wanted)
    return Rouge(_overlap(ours, theirs, 1), _overlap(ours, theirs, 2), _f1(_common(ours, theirs), len(ours), len(theirs)))


def _f1(common: int, ours: int, theirs: int) -> float:
    return 2 * common / (ours + theirs) if common else 0.0


def _overlap(ours: Sequence[str], theirs: Sequence[str], size: int) -> float:
    one, other = (Counter(zip(*(text[i:] for i in range(size)), strict=False)) for text in (ours, theirs))
    return _f1((one & other).total(), one.total(), other.total())


def _common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest common subsequence. A row a token of ours: best[j] = max over the prefix of what could be reached."""
    row = np.zeros(len(theirs) + 1, np.int64)
    other = np.array(theirs, dtype=object)
    for token in ours:
        reached = row.copy()
        reached[1:] = np.maximum(reached[1:], row[:-1] + (other == token))
        row = np.maximum.accumulate(reached)
    return int(row[-1])
