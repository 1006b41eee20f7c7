"""What goes into a tokenizer and comes out of it: added tokens, packed batches, encodings, and the cutting of texts."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["VERY_LARGE", "AddedToken", "BatchEncoding", "Packed", "PackedPairs", "Segment", "Template"]

VERY_LARGE = int(1e30)  # transformers' "no limit"


class Packed(NamedTuple):
    """A batch without padding: sequence b is ids[row_splits[b] : row_splits[b + 1]]; int32 [T] and int64 [B + 1]."""

    ids: NDArray[np.int32]
    row_splits: NDArray[np.int64]


class PackedPairs(NamedTuple):
    """A Packed of pairs of texts. token_type_ids: int32 [T], 0 for the first text with its special tokens, 1 for the second."""

    ids: NDArray[np.int32]
    row_splits: NDArray[np.int64]
    token_type_ids: NDArray[np.int32]


class AddedToken(NamedTuple):
    """A token that is found in the text before anything else is done to it."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False

    def __str__(self) -> str:
        return self.content


class Template(NamedTuple):
    """The ids around one text and around a second one; the second part has token type `pair_type`."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    pair_before: tuple[int, ...] = ()
    pair_after: tuple[int, ...] = ()
    pair_type: int = 1

    def count(self, pair: bool) -> int:
        """How many special tokens there are."""
        return sum(map(len, self[:4] if pair else self[:2]))

    def bare(self) -> Template:
        """Without the special tokens."""
        return Template(pair_type=self.pair_type)


class BatchEncoding(UserDict):  # type: ignore[type-arg]
    """What a tokenizer returns: a mapping whose entries are attributes too."""

    def __init__(self, data: Mapping[str, Any], words: list[list[int | None]] | None = None) -> None:
        super().__init__(data)
        self._words = words

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "data":
            raise AttributeError(name)
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(f"this encoding has no {name}: it has {', '.join(self.data)}") from None

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.data[key]
        raise KeyError(f"encodings are indexed by name ({', '.join(self.data)}), got {key!r}")

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The word of the source that each token belongs to; None for special tokens."""
        if self._words is None:
            raise ValueError("word_ids() needs an encoding made by a tokenizer's __call__")
        return self._words[batch_index]


class Segment(NamedTuple):
    """One text's tokens before special tokens."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    words: list[int]

    def cut(self, start: int, stop: int) -> Segment:
        return Segment(self.ids[start:stop], self.offsets[start:stop], self.words[start:stop])


def parts(segment: Segment, length: int, stride: int, side: str) -> list[Segment]:
    """`segment` cut to `length`, then the overflowing parts, which repeat `stride` tokens."""
    total = len(segment.ids)
    if length >= total:
        return [segment]
    if length == 0:
        return [segment.cut(0, 0), segment]
    if stride >= length:
        raise ValueError(f"stride {stride} must be smaller than the {length} tokens that a part holds")
    cut: list[Segment] = []
    step = length - stride
    if side == "left":
        for stop in range(total, 0, -step):
            start = max(0, stop - length)
            cut.append(segment.cut(start, stop))
            if start == 0:
                break
    else:
        for start in range(0, total, step):
            stop = min(start + length, total)
            cut.append(segment.cut(start, stop))
            if stop == total:
                break
    return cut


def is_batch(text: Any, split: bool) -> bool:
    if split:
        return isinstance(text, list | tuple) and bool(text) and isinstance(text[0], list | tuple)
    return isinstance(text, list | tuple)


def longest_first(a: Any, b: Any, room: int) -> tuple[Any, Any]:
    """How long two texts of `a` and `b` tokens (numbers, or arrays of them) may be so that both fit `room`."""
    small, large = np.minimum(a, b), np.maximum(a, b)
    large = np.where(small > room, small, np.minimum(large, np.maximum(small, room - small)))
    tight = small + large > room
    small, large = np.where(tight, room // 2, small), np.where(tight, room // 2 + room % 2, large)
    first = np.greater(a, b)
    return np.where(first, large, small), np.where(first, small, large)


def side_of(value: str, name: str) -> str:
    if value not in ("left", "right"):
        raise ValueError(f'{name} must be "left" or "right", got {value!r}')
    return value


def pad_row(row: list[Any], width: int, value: Any, left: bool) -> list[Any]:
    fill = [value] * max(0, width - len(row))
    return fill + row if left else row + fill


def as_array(name: str, rows: list[Any]) -> NDArray[np.int64]:
    try:
        return np.array(rows, dtype=np.int64)
    except ValueError:
        raise ValueError(f"{name}: rows have different lengths, so they make no array: use padding=True") from None


def tidy(text: str) -> str:
    """The spaces that English spelling does not have."""
    for old, new in (
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
        (" 've", "'ve"), (" 're", "'re"),
    ):  # fmt: skip
        text = text.replace(old, new)
    return text
