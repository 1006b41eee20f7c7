"""Exact and near duplicates in bounded memory.

Exact: a 64-bit hash of the text. Near: MinHash over the 5-character shingles of letters and digits (Broder 1997), 64
permutations in 9 bands of 7 (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4): a pair of Jaccard similarity
0.8 shares a band with probability 0.88, one of 0.9 with 0.997, and is dropped when 64 stored bytes of the signatures say that
it is similar enough. Signatures are those of datasketch's MinHash with the scheme "affine32", computed for all
permutations of a block at once instead of shingle by shingle.

Memory: open-addressing tables in NumPy arrays, 12 bytes an entry for bands and 8 for exact hashes, at most 70 % full; at most
218 bytes a kept document for near duplicates and 12 for exact ones. Each index consists of two generations of a fixed size: when the younger one is
full, the older one is forgotten, so the memory never exceeds the limit and a document is compared with at least one full
generation before it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.corpus.clean import letters

__all__ = ["BANDS", "PERMUTATIONS", "ROWS", "Duplicates", "KeyTable", "shingle_hashes", "signature", "text_key"]

SHINGLE, PERMUTATIONS, BANDS, ROWS = 5, 64, 9, 7
_FULL = 0.7
_BLOCK = 4096  # shingles at a time: 64 x 4096 products of 4 bytes stay in the second-level cache
_EXACT_BYTES = 8 / _FULL
_NEAR_BYTES = BANDS * 12 / _FULL + PERMUTATIONS
U32, U64 = np.uint32, np.uint64
# uint64 [1 + BANDS] and uint8 [PERMUTATIONS] of a kept document, as they lie in the file that a resumed build reads again
RECORD = np.dtype([("exact", U64), ("bands", U64, (BANDS,)), ("near", np.uint8), ("signature", np.uint8, (PERMUTATIONS,))])


def _permutations(seed: int = 1) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """a (odd) and b of h -> a h + b mod 2^32; the draws of datasketch's affine32 for the same seed."""
    draw = np.random.RandomState(seed)
    a = draw.randint(0, 1 << 31, PERMUTATIONS, dtype=U32) * U32(2) + U32(1)
    return a, draw.randint(0, 1 << 32, PERMUTATIONS, dtype=U32)


_A, _B = (array[:, None] for array in _permutations())
_BAND_A = np.random.Generator(np.random.Philox(key=7)).integers(0, 1 << 64, (BANDS, ROWS), dtype=U64) | U64(1)


def text_key(text: str) -> int:
    """64 bits that stand for the text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")


def shingle_hashes(points: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A hash of every run of 5 letters and digits of the text with these code points, uint32 [n - 4]."""
    kept = letters(points)
    count = len(kept) - SHINGLE + 1
    if count <= 0:
        return np.zeros(0, U32)
    value = kept[:count].copy()
    for shift in range(1, SHINGLE):
        value *= U32(0x9E3779B1)
        value += kept[shift : shift + count]
    return value


def _mix(value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's finaliser: spreads every bit over all."""
    value = (value ^ (value >> U32(16))) * U32(0x85EBCA6B)
    value = (value ^ (value >> U32(13))) * U32(0xC2B2AE35)
    return value ^ (value >> U32(16))


def signature(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The MinHash signature of a set of hashes, uint32 [64]; all ones for the empty set."""
    least = np.full(PERMUTATIONS, 0xFFFFFFFF, U32)
    for begin in range(0, len(hashes), _BLOCK):
        np.minimum(least, (_A * _mix(hashes[begin : begin + _BLOCK]) + _B).min(axis=1), out=least)
    return least


def band_keys(signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """64 bits for each band of each signature: [n, 64] -> [n, 9]. Bands never share keys."""
    rows = signatures[:, : BANDS * ROWS].reshape(-1, BANDS, ROWS).astype(U64)
    keys = (rows * _BAND_A).sum(axis=2, dtype=U64) + np.arange(BANDS, dtype=U64) * U64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> U64(31))) * U64(0xBF58476D1CE4E5B9)
    return keys ^ (keys >> U64(29))


class KeyTable:
    """64-bit key -> 32-bit number, or a set of keys when `valued` is False; the first number of a key stays.

    Open addressing with linear probing, whole arrays at a time. Grows by doubling up to `limit` keys.
    """

    def __init__(self, limit: int, valued: bool = True) -> None:
        self.limit, self.valued = limit, valued
        self.count = 0
        self._make(min(limit, 4096))

    def _make(self, room: int) -> None:
        self.room = room
        slots = int(room / _FULL) + 1
        self.keys = np.zeros(slots, U64)
        self.values = np.zeros(slots if self.valued else 0, U32)

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def _slots(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        high = keys * U64(0x9E3779B97F4A7C15) >> U64(32)
        return (high * U64(len(self.keys)) >> U64(32)).astype(np.int64)

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The number of each key (0 in a set), -1 for those that are not there. int64 [n]."""
        keys = np.maximum(keys, U64(1))  # 0 marks a free slot
        found = np.full(len(keys), -1, np.int64)
        slots = self._slots(keys)
        left = np.arange(len(keys))
        while len(left):
            there = self.keys[slots]
            hit = there == keys[left]
            found[left[hit]] = self.values[slots[hit]] if self.valued else 0
            go = ~hit & (there != 0)
            left, slots = left[go], (slots[go] + 1) % len(self.keys)
        return found

    def insert(self, keys: NDArray[np.uint64], values: NDArray[Any] | None = None) -> None:
        """Adds keys; ValueError beyond the limit."""
        if self.count + len(keys) > self.limit:
            raise ValueError(f"a table of {self.limit} keys cannot take {len(keys)} more")
        if self.count + len(keys) > self.room:
            old_keys, old_values = self.keys, self.values
            self._make(min(self.limit, max(self.count + len(keys), 2 * self.room)))
            used = old_keys != 0
            self.count = 0
            self._put(old_keys[used], old_values[used] if self.valued else None)
        self._put(np.maximum(keys, U64(1)), values)

    def _put(self, keys: NDArray[np.uint64], values: NDArray[Any] | None) -> None:
        slots = self._slots(keys)
        left = np.arange(len(keys))
        while len(left):
            free = self.keys[slots] == 0
            # Of several keys that want one free slot the first gets it: a key's first number stays.
            wanted, first = np.unique(slots[free], return_index=True)
            winners = left[free][first]
            self.keys[wanted] = keys[winners]
            if self.valued and values is not None:
                self.values[wanted] = values[winners]
            self.count += len(winners)
            go = self.keys[slots] != keys[left]
            left, slots = left[go], (slots[go] + 1) % len(self.keys)


class _Generation:
    def __init__(self, documents: int, near: bool) -> None:
        self.limit, self.near = documents, near
        self.documents = 0
        self.table = KeyTable(documents * (BANDS if near else 1), valued=near)
        self.signatures = np.zeros((min(documents, 512) if near else 0, PERMUTATIONS), np.uint8)

    def add(self, records: NDArray[Any]) -> None:
        if self.near:
            end = self.documents + len(records)
            if end > len(self.signatures):
                grown = np.zeros((min(self.limit, max(end, 2 * len(self.signatures))), PERMUTATIONS), np.uint8)
                grown[: self.documents] = self.signatures[: self.documents]
                self.signatures = grown
            self.signatures[self.documents : end] = records["signature"]
            numbers = np.arange(self.documents, end, dtype=U32)
            self.table.insert(records["bands"].reshape(-1), np.repeat(numbers, BANDS))
        else:
            self.table.insert(records["exact"])
        self.documents += len(records)


class _Index:
    """Two generations."""

    def __init__(self, documents: int, near: bool) -> None:
        self.limit, self.near = documents, near
        self.young = _Generation(documents, near)
        self.old: _Generation | None = None
        self.forgotten = 0

    @property
    def room(self) -> int:
        """How many documents may be added at once, at least 1."""
        return self.limit - self.young.documents

    def add(self, records: NDArray[Any]) -> None:
        """Adds documents; forgets the older generation as soon as the younger one is full."""
        self.young.add(records)
        if self.room == 0:
            self.forgotten += self.old.documents if self.old else 0
            self.old, self.young = self.young, _Generation(self.limit, self.near)

    def generations(self) -> list[_Generation]:
        return [self.young] if self.old is None else [self.young, self.old]

    @property
    def nbytes(self) -> int:
        return sum(g.table.nbytes + g.signatures.nbytes for g in self.generations())


class Duplicates:
    """Says of each document, in order, whether one that was kept before is the same or nearly so.

    near: look for near duplicates as well.  threshold: the least estimated Jaccard similarity of a near duplicate.
    megabytes: the most that the indexes take (a quarter of it for exact hashes). The answer for a document depends on the
    documents before it alone, not on how they were cut into calls.
    """

    def __init__(self, near: bool = True, threshold: float = 0.8, megabytes: float = 512) -> None:
        budget = megabytes * 2**20 / 2  # a generation
        self.near, self.threshold = near, threshold
        self._exact = _Index(max(64, int(budget * 0.25 / _EXACT_BYTES)), False)
        self._near = _Index(max(64, int(budget * 0.75 / _NEAR_BYTES)), True)

    @property
    def nbytes(self) -> int:
        """What the indexes take now."""
        return self._exact.nbytes + self._near.nbytes

    @property
    def forgotten(self) -> int:
        """Kept documents that later ones were no longer compared with for near duplicates."""
        return self._near.forgotten

    def check(self, keys: list[int], points: list[NDArray[np.uint32]]) -> tuple[list[str | None], NDArray[Any]]:
        """Reasons ("exact_duplicate", "near_duplicate" or None = kept), and the records of those that are kept.

        keys: text_key of each document.  points: code points of each.
        """
        reasons: list[str | None] = []
        kept: list[NDArray[Any]] = []
        while len(reasons) < len(keys):
            begin = len(reasons)
            end = begin + min(self._exact.room, self._near.room, 4096)
            some, records = self._chunk(keys[begin:end], points[begin:end])
            self._exact.add(records)
            self._near.add(records[records["near"] == 1])
            reasons += some
            kept.append(records)
        return reasons, np.concatenate(kept) if kept else np.zeros(0, RECORD)

    def restore(self, records: NDArray[Any]) -> None:
        """Adds documents that an earlier run kept, in its order."""
        done = 0
        while done < len(records):
            some = records[done : done + min(self._exact.room, self._near.room, 4096)]
            self._exact.add(some)
            self._near.add(some[some["near"] == 1])
            done += len(some)

    def _chunk(self, keys: list[int], points: list[NDArray[np.uint32]]) -> tuple[list[str | None], NDArray[Any]]:
        records = np.zeros(len(keys), RECORD)
        records["exact"] = np.array(keys, U64)
        known = np.zeros(len(keys), np.bool_)
        for generation in self._exact.generations():
            known |= generation.table.find(records["exact"]) >= 0
        first: dict[int, int] = {}  # key -> its first document here
        fresh = [index for index, key in enumerate(keys) if not known[index] and first.setdefault(key, index) == index]
        near = self._near_duplicates(records, points, fresh) if self.near else set()
        reasons: list[str | None] = []
        for index, key in enumerate(keys):
            original = first.get(key, -1)
            if original in near:  # a copy of a document that was not kept is no copy of a kept one
                reasons.append("near_duplicate")
            else:
                reasons.append(None if original == index else "exact_duplicate")
        return reasons, records[[reason is None for reason in reasons]]

    def _near_duplicates(self, records: NDArray[Any], points: list[NDArray[np.uint32]], fresh: list[int]) -> set[int]:
        """Which of the documents `fresh` are near duplicates; writes the records of all of them."""
        hashes = [shingle_hashes(points[index]) for index in fresh]
        chosen = [index for index, some in zip(fresh, hashes, strict=True) if len(some)]
        if not chosen:
            return set()
        whole = np.stack([signature(some) for some in hashes if len(some)])
        bands, marks = band_keys(whole), whole.astype(np.uint8)
        records["near"][chosen], records["bands"][chosen], records["signature"][chosen] = 1, bands, marks
        known = np.zeros(len(chosen), np.bool_)
        for generation in self._near.generations():
            owners = generation.table.find(bands.reshape(-1)).reshape(-1, BANDS)
            pairs = np.argwhere(owners >= 0)
            same = generation.signatures[owners[owners >= 0]] == marks[pairs[:, 0]]
            known[pairs[self._similar(same.mean(axis=1)), 0]] = True
        owner: dict[int, int] = {}  # band -> the first kept document of this chunk that has it
        found: set[int] = set()
        for index, mine in enumerate(bands.tolist()):
            others = {owner[key] for key in mine if key in owner}
            if known[index] or any(self._similar((marks[other] == marks[index]).mean()) for other in others):
                found.add(chosen[index])
                continue
            for key in mine:
                owner.setdefault(key, index)
        return found

    def _similar(self, equal: Any) -> Any:
        """Whether the share of equal bytes says so: different minima agree in a byte once in 256."""
        return (equal - 1 / 256) / (1 - 1 / 256) >= self.threshold
