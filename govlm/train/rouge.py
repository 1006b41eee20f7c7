"""ROUGE of Chinese texts, character by character (Lin 2004): ROUGE-1, ROUGE-2 and ROUGE-L, F1.

White space and punctuation do not count. A run of digits or Latin letters is one token, so that 500 and 1500 share nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Rouge", "common_length", "rouge", "rouge_l", "tokens"]

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
    return Rouge(_overlap(ours, theirs, 1), _overlap(ours, theirs, 2), _f1(common_length(ours, theirs), len(ours), len(theirs)))


def rouge_l(found: str, wanted: str) -> float:
    """`rouge(…).longest` alone."""
    ours, theirs = tokens(found), tokens(wanted)
    return _f1(common_length(ours, theirs), len(ours), len(theirs))


def _f1(common: int, ours: int, theirs: int) -> float:
    return 2 * common / (ours + theirs) if common else 0.0


def _overlap(ours: Sequence[str], theirs: Sequence[str], size: int) -> float:
    one, other = (Counter(zip(*(text[i:] for i in range(size)), strict=False)) for text in (ours, theirs))
    return _f1((one & other).total(), one.total(), other.total())


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, a bit a token of `first` (Hyyrö, Bit-parallel LCS-length computation revisited,
    AWOCA 2004)."""
    places: dict[str, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    whole = (1 << len(first)) - 1
    free = whole
    for token in second:
        met = free & places.get(token, 0)
        free = ((free + met) | (free - met)) & whole
    return len(first) - free.bit_count()
