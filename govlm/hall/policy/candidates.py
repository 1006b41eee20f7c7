"""The terms that a text may have: runs of characters between two borders, each with its features.

No dictionary of words: what a term is shows in how its characters hold together and how loosely it hangs on its neighbours (pointwise
mutual information of pairs in a large corpus, as in Church and Hanks 1990), in how often it comes and in what different surroundings
(as the accessor variety of Feng et al. 2004), and in the characters at its borders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from govlm.hall.policy import pairs

__all__ = ["BORDERS", "FEATURE_NAMES", "LONGEST", "Candidates", "Context", "candidates", "title_of"]

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

LONGEST = 10  # characters of a term
BORDERS = ("first", "last", "before", "after")  # places of a character at a term
Context = Mapping[str, tuple[float, ...]]  # character -> how much each of these places speaks for a term there
_TITLE = 60  # characters of a title
_NO_TITLE = re.compile(r"[。；！？\n]|[.;]$")
_INNER = re.compile(r"[一-鿿A-Za-z0-9α-ωΑ-Ω·\-－]")
_NEVER_INSIDE = frozenset("的了着呢吗吧们这那是我你他她它您被把将也都就还又并且但而或者因")
_NEVER_AT_EDGE = frozenset(
    "的了着呢吗吧们这那是被把将也都就还又并且但而或因与和及在对为从等以于其各每某该此所之、-－·个中内上下后前者"
)
_LOOSE = frozenset('的了和与及在对为从等以于是由将把被中上下，。；：、！？,.;:!?()（）《》“”"\n ')

FEATURE_NAMES = (
    *(f"length_{n}" for n in (2, 3, 4, 5, 6)), "length_7_up", "log_length",
    "log_count", "log_count_long", "title", "title_only_once", "title_start", "title_end", "place", "first_tenth", "last_fifth",
    "idf_sum", "idf_mean", "idf_least", "idf_weighted",
    "inside_mean", "inside_least", "border_left", "border_right", "border_worst", "free_left", "free_right", "loose_left", "loose_right",
    "edge_inside", "idf_first", "idf_last", "latin", "digit", "mixed", "quoted", "variety_left", "variety_right", "bound_left", "bound_right",
    *(f"char_{name}" for name in BORDERS), "char_all",
)  # fmt: skip


@dataclass(frozen=True)
class Candidates:
    """starts, ends [N]: where each first stands. counts [N]. features [N, len(FEATURE_NAMES)]."""

    starts: I64
    ends: I64
    counts: I64
    features: F32


def title_of(text: str) -> tuple[int, int]:
    """[start, end) of the line that reads as a title: the first line, or what stands after the last white space, when it is short
    and no sentence; (0, 0) where there is none."""
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    line = text.find("\n", start, end)
    last = max(text.rfind(space, max(start, end - _TITLE - 1), end) for space in " \n\t\u3000")
    for low, high in ((start, line), (last + 1, end)):
        part = text[low:high]
        if 4 <= high - low <= _TITLE and low > (start if low != start else -1) and not _NO_TITLE.search(part):
            return low, low + len(part.rstrip())
    return 0, 0


def candidates(text: str, title: tuple[int, int], context: Context) -> Candidates | None:
    """All of a text; None when it has none. title: where its title stands."""
    size = len(text)
    if size < 2:
        return None
    points = np.array([ord(char) for char in text], np.int64)
    letters = np.array([_INNER.match(char) is not None and char not in _NEVER_INSIDE for char in text])
    edge = np.array([char not in _NEVER_AT_EDGE for char in text])
    latin = np.array([char.isascii() and char.isalnum() for char in text])
    digit = np.array([char.isdigit() for char in text])
    joined = latin[:-1] & latin[1:]  # inside a word or a number
    reach = _reach(letters)
    starts, ends = _spans(reach, letters & edge, joined, latin, size)
    counted = digit[starts] & np.array([char in "年月日时元万亿个人号岁天次条项" for char in text])[ends - 1]  # 2026年, 500元
    alive = ~_all(digit, starts, ends) & ~counted
    starts, ends = starts[alive], ends[alive]
    if not len(starts):
        return None
    names = _names(points, starts, ends)
    _, first, which, counts = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    if size > 20_000:  # what a long text says once is no key term of it
        often = counts[which] > 1
        if often.any():
            starts, ends = starts[often], ends[often]
            _, first, which, counts = np.unique(names[often], return_index=True, return_inverse=True, return_counts=True)
    table = pairs.load()
    idf, pair_idf, held = table.rarity(points)
    loose = np.array([True, *(char in _LOOSE for char in text), True])  # loose[i + 1]: of text[i]
    padded = np.concatenate([[-1.0], held, [-1.0]])  # padded[i]: between text[i - 1] and text[i]
    before = np.concatenate([[0], points])  # before[i]: of text[i - 1]
    after = np.concatenate([points, [0]])
    in_title = (starts >= title[0]) & (ends <= title[1])
    of = len(counts)
    variety = [_variety(which, neighbour, of) for neighbour in (before[starts], after[ends])]
    most = [_most_common(which, neighbour, of) for neighbour in (before[starts], after[ends])]
    titled = np.bincount(which, in_title, of)
    loose_left = np.bincount(which, loose[starts], of) / counts
    loose_right = np.bincount(which, loose[ends + 1], of) / counts
    left = np.bincount(which, padded[starts], of) / counts
    right = np.bincount(which, padded[ends], of) / counts
    chars = [np.array([context.get(char, (0.0,) * 4)[i] for char in text] + [0.0]) for i in range(4)]
    char_before = np.bincount(which, np.concatenate([[0.0], chars[2]])[starts], of) / counts
    char_after = np.bincount(which, chars[3][ends], of) / counts
    s, e = starts[first], ends[first]
    length = e - s
    inside = _window_sum(held, s, e - 1) / np.maximum(length - 1, 1)
    least = _window_least(held, s, e - 1)
    pair_sum = _window_sum(pair_idf, s, e - 1)
    mixed = ~_all(latin, s, e) & (_window_sum(latin.astype(np.float32), s, e) > 0)
    tf = np.log1p(counts)
    char_first, char_last = chars[0][s], chars[1][e - 1]
    quoted = np.array(
        [text[a - 1 : a] in '“《"「' and text[b : b + 1] in '”》"」' if a else False for a, b in zip(s, e, strict=True)]
    )
    columns = [
        *(length == n for n in (2, 3, 4, 5, 6)), length >= 7, np.log(length),
        tf, tf * (length >= 4), titled > 0, (titled > 0) & (counts == 1), (titled > 0) & (_least_of(which, np.where(in_title, starts - title[0], size), of) == 0),
        (titled > 0) & (_least_of(which, np.where(in_title, title[1] - ends, size), of) == 0), s / size, s < size / 10, s > size * 0.8,
        pair_sum / 30, pair_sum / np.maximum(length - 1, 1) / 5, _window_least(pair_idf, s, e - 1) / 5, tf * pair_sum / np.maximum(length - 1, 1) / 5,
        inside / 3, least / 3, left / 3, right / 3, np.maximum(left, right) / 3, left < -0.5, right < -0.5, loose_left, loose_right,
        least < np.maximum(left, right), idf[s] / 5, idf[e - 1] / 5, _all(latin, s, e), _window_sum(digit.astype(np.float32), s, e) > 0, mixed, quoted,
        np.log(variety[0]), np.log(variety[1]), (counts > 1) & (most[0] == counts) & (loose_left < 1), (counts > 1) & (most[1] == counts) & (loose_right < 1),
        char_first, char_last, char_before, char_after, char_first + char_last + char_before + char_after,
    ]  # fmt: skip
    return Candidates(s, e, counts, np.stack([np.asarray(column, np.float32) for column in columns], axis=1))


def _reach(letters: NDArray[np.bool_]) -> I64:
    """[T] where the run of letters that holds each place ends."""
    size = len(letters)
    stops = np.where(~letters, np.arange(size), size)
    found: I64 = np.minimum.accumulate(stops[::-1])[::-1]
    return found


def _spans(
    reach: I64, edge: NDArray[np.bool_], joined: NDArray[np.bool_], latin: NDArray[np.bool_], size: int
) -> tuple[I64, I64]:
    """(starts, ends): runs of letters that begin and end at a possible border; a Latin word counts whole, however long."""
    opens = edge & ~np.concatenate([[False], joined])
    closes = edge & ~np.concatenate([joined, [False]])
    all_starts, all_ends = [], []
    for length in range(2, LONGEST + 1):
        if size < length:
            break
        s = np.flatnonzero(opens[: size - length + 1])
        s = s[(reach[s] >= s + length) & closes[s + length - 1]]
        all_starts.append(s)
        all_ends.append(s + length)
    return np.concatenate(all_starts), np.concatenate(all_ends)


def _names(points: I64, starts: I64, ends: I64) -> NDArray[np.uint64]:
    """A number for each span that is the same where the characters are (FNV, 64 bits)."""
    found = np.full(len(starts), 14695981039346656037, np.uint64)
    for i in range(LONGEST):
        more = starts + i < ends
        value = points[np.minimum(starts + i, len(points) - 1)].astype(np.uint64) + np.uint64(1)
        found = np.where(more, (found ^ value) * np.uint64(1099511628211), found)
    return found


def _window_sum(values: F32, starts: I64, ends: I64) -> F32:
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    found: F32 = (total[ends] - total[starts]).astype(np.float32)
    return found


def _window_least(values: F32, starts: I64, ends: I64) -> F32:
    found = np.full(len(starts), np.inf, np.float32)
    for i in range(LONGEST):
        inside = starts + i < ends
        found = np.where(inside, np.minimum(found, values[np.minimum(starts + i, len(values) - 1)]), found)
    return found


def _all(values: NDArray[np.bool_], starts: I64, ends: I64) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = _window_sum(values.astype(np.float32), starts, ends) == ends - starts
    return found


def _variety(which: I64, neighbour: I64, of: int) -> I64:
    """[of] how many different characters stand beside each candidate."""
    both = np.unique(which * 0x200000 + neighbour)
    return np.bincount(both // 0x200000, minlength=of)


def _most_common(which: I64, neighbour: I64, of: int) -> I64:
    both, counts = np.unique(which * 0x200000 + neighbour, return_counts=True)
    found = np.zeros(of, np.int64)
    np.maximum.at(found, both // 0x200000, counts)
    return found


def _least_of(which: I64, values: I64, of: int) -> I64:
    found = np.full(of, np.iinfo(np.int64).max)
    np.minimum.at(found, which, values)
    return found
