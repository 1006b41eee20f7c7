"""ROUGE-L: how much of a text's order of units another text shares.

Lin, ROUGE: A Package for Automatic Evaluation of Summaries (ACL workshop 2004), section 3.1, with beta 1: the harmonic mean of
LCS / units of the candidate and LCS / units of the reference. Units of Chinese are its characters; a run of Latin letters or
digits is one unit, in lower case; spaces are none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["common_length", "rouge_l", "units"]

_UNIT = re.compile(r"[A-Za-zÀ-ɏ]+|[0-9]+|\S")


def units(text: str) -> list[str]:
    """What is counted in a text, in order."""
    return _UNIT.findall(text.lower())


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, a bit a unit of `first` (Hyyrö, Bit-parallel LCS-length computation revisited,
    AWOCA 2004)."""
    places: dict[str, int] = {}
    for place, unit in enumerate(first):
        places[unit] = places.get(unit, 0) | 1 << place
    whole = (1 << len(first)) - 1
    free = whole
    for unit in second:
        met = free & places.get(unit, 0)
        free = ((free + met) | (free - met)) & whole
    return len(first) - free.bit_count()


def rouge_l(candidate: str, reference: str) -> float:
    """F1 in 0..1; 0 where either has no unit."""
    a, b = units(candidate), units(reference)
    shared = common_length(a, b)
    return 2 * shared / (len(a) + len(b)) if shared else 0.0
