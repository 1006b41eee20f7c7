"""Sets of characters as ranges of code points, and the UTF-8 byte ranges that spell them.

A set is a tuple of (first, last) code points, both included, ascending and apart. Surrogates are in no set: UTF-8 has no
spelling for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["EVERY", "Ranges", "complement", "contains", "intersect", "meets", "sequences", "spelled", "union", "unlike"]

Ranges = tuple[tuple[int, int], ...]
EVERY: Ranges = ((0, 0xD7FF), (0xE000, 0x10FFFF))


def union(*sets: Iterable[tuple[int, int]]) -> Ranges:
    """Every character of any of the sets; their ranges may come in any order and overlap."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pair for ranges in sets for pair in ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def intersect(left: Ranges, right: Ranges) -> Ranges:
    """The characters of both sets."""
    found = []
    i = j = 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            found.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def complement(ranges: Ranges) -> Ranges:
    """The characters that are not in the set."""
    gaps, at = [], 0
    for low, high in ranges:
        if at < low:
            gaps.append((at, low - 1))
        at = high + 1
    if at <= 0x10FFFF:
        gaps.append((at, 0x10FFFF))
    return intersect(tuple(gaps), EVERY)


def contains(ranges: Ranges, code: int) -> bool:
    """Whether the character is in the set."""
    return meets(ranges, code, code)


def meets(ranges: Ranges, low: int, high: int) -> bool:
    """Whether the set has a character from low to high."""
    left, right = 0, len(ranges)
    while left < right:
        middle = (left + right) // 2
        if ranges[middle][1] < low:
            left = middle + 1
        else:
            right = middle
    return left < len(ranges) and ranges[left][0] <= high


def spelled(characters: Iterable[str]) -> Ranges:
    """The set of these characters."""
    return intersect(union((ord(char), ord(char)) for char in characters), EVERY)


@lru_cache(maxsize=8)
def unlike(escape: str) -> Ranges:
    r"""The characters that Python's \D, \W or \S matches."""
    text = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    return intersect(tuple((ord(m[0][0]), ord(m[0][-1])) for m in re.finditer(escape + "+", text)), EVERY)


@lru_cache(maxsize=4096)
def sequences(ranges: Ranges) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The set as sequences of byte ranges: a character is in the set when its UTF-8 bytes lie in one of the sequences."""
    found: list[tuple[tuple[int, int], ...]] = []
    stack = list(reversed(ranges))
    while stack:
        low, high = stack.pop()
        cut = _cut(low, high)
        if cut is not None:
            stack += [(cut + 1, high), (low, cut)]
        else:
            found.append(tuple(zip(chr(low).encode(), chr(high).encode(), strict=True)))
    return tuple(found)


def _cut(low: int, high: int) -> int | None:
    """Where to divide a range whose spellings are not the product of byte ranges: the last code point of the first part."""
    for limit in (0x7F, 0x7FF, 0xFFFF):
        if low <= limit < high:
            return limit
    if high > 0x7F:
        for mask in (0x3F, 0xFFF, 0x3FFFF):
            if low & ~mask != high & ~mask:
                if low & mask:
                    return low | mask
                if high & mask != mask:
                    return (high & ~mask) - 1
    return None
