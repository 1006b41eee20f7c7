"""The sequences of a pre-training run: documents of token shards, cut where words begin, in an order drawn anew every epoch.

Nothing here knows a model. A sequence is [CLS] … [SEP], or what stands for them, with at most max_length tokens; its number is its
place in the corpus. Batches are packed without padding, and batch `step` is a function of the seed and `step` only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.data import permutation
from govlm.train.masking import philox

__all__ = ["Batch", "Order", "Sequences", "cut", "open_corpora"]

_BLOCK = 1 << 22  # tokens that are cut at a time: memory stays constant


@dataclass
class Batch:
    """ids int32 [T], row_splits int64 [B+1], word_starts bool [T] (False at [CLS] and [SEP]), numbers int64 [B]."""

    ids: NDArray[np.int32]
    row_splits: NDArray[np.int64]
    word_starts: NDArray[np.bool_]
    numbers: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of these rows' tokens, in this order."""
        return np.concatenate([np.arange(self.row_splits[r], self.row_splits[r + 1]) for r in rows])


def open_corpora(folders: Sequence[str | Path]) -> list[Any]:
    """The corpora in these folders, every shard checked against its checksum. ValueError when their tokenizers differ; the
    reader's own errors, which name the file.
    """
    from govlm.corpus.shards import Corpus

    corpora = [Corpus(folder) for folder in folders]
    for folder, corpus in zip(folders, corpora, strict=True):
        if corpus.vocab_size != corpora[0].vocab_size or _tokenizer(folder) != _tokenizer(folders[0]):
            raise ValueError(f"{folder} was made with another tokenizer than {folders[0]}: build both with one")
    for corpus in corpora:
        for index in range(len(corpus.shards)):
            corpus.verify(index)
    return corpora


def _tokenizer(folder: str | Path) -> str:
    import json

    return str(json.loads((Path(folder) / "corpus.json").read_text("utf-8")).get("tokenizer_sha256"))


def cut(splits: NDArray[np.int64], word_starts: NDArray[np.bool_], limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts documents into pieces of at most `limit` tokens: (begins, documents), int64 [pieces].

    splits: int64 [D+1], from 0; word_starts: bool [splits[-1]]. A piece of document d ends where the next piece of d begins, or
    where d ends. The pieces of a document are about equally long, and begin where a word does (a word longer than a piece is
    cut all the same). Empty documents have none.
    """
    begins, documents = [], []
    positions, ends = splits[:-1].copy(), splits[1:]
    which = np.flatnonzero(positions < ends)
    latest = np.maximum.accumulate(np.where(word_starts, np.arange(len(word_starts)), -1))
    while len(which):  # all documents at once, a piece each
        at, left = positions[which], ends[which] - positions[which]
        begins.append(at)
        documents.append(which)
        pieces = -(-left // limit)
        after = at + -(-left // pieces)
        last = pieces == 1
        words = latest[np.minimum(after, len(latest) - 1)]
        after = np.where(last, ends[which], np.where(words > at, words, after))
        positions[which] = after
        which = which[~last]
    if not begins:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    flat, owner = np.concatenate(begins), np.concatenate(documents)
    order = np.argsort(flat, kind="stable")
    return flat[order], owner[order]


class Sequences:
    """An index over the pieces of corpora.

    corpora: open and checked; max_length: tokens of a sequence with [CLS] and [SEP]; cls_id, sep_id: those, or what stands
    before and behind a sequence in their place (None: nothing); at_end: sep_id only where a document ends, as one that writes
    should learn it. Arrays, [N]: `shard` (place in `places`), `begin` (token in the shard), `length` (without [CLS], [SEP]),
    `closed` (whether sep_id stands behind).
    """

    def __init__(
        self, corpora: Sequence[Any], max_length: int, cls_id: int | None, sep_id: int | None, at_end: bool = False
    ) -> None:
        self.corpora, self.cls_id, self.sep_id = corpora, cls_id, sep_id
        limit = max_length - (cls_id is not None) - (sep_id is not None)
        self.places = [(c, i) for c in range(len(corpora)) for i in range(len(corpora[c].shards))]
        parts: list[tuple[NDArray[Any], ...]] = []
        document = 0
        for number, (c, i) in enumerate(self.places):
            shard = corpora[c].shard(i)
            splits = np.asarray(shard.document_splits, np.int64)
            for first, last in _blocks(splits):
                base = int(splits[first])
                local = splits[first : last + 1] - base
                begins, owner = cut(local, shard.word_starts(base, int(splits[last])), limit)
                ends = np.append(begins[1:], local[-1])
                ends = np.minimum(ends, local[owner + 1])
                parts.append((np.full(len(begins), number, np.int32), begins + base, ends - begins, owner + first + document))
            document += len(splits) - 1
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0, np.int64)] * 4
        self.shard, self.begin = columns[0].astype(np.int32), columns[1].astype(np.int64)
        self.length, self.document = columns[2].astype(np.int32), columns[3].astype(np.int64)
        self.closed = np.full(len(self.begin), sep_id is not None)
        if at_end and len(self):
            self.closed[:-1] &= self.document[1:] != self.document[:-1]

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences, [CLS] and [SEP] included."""
        return int(self.whole.sum(dtype=np.int64))

    @property
    def whole(self) -> NDArray[np.int64]:
        """Tokens of each sequence, [CLS] and [SEP] included: int64 [N]."""
        return self.length.astype(np.int64) + (self.cls_id is not None) + self.closed

    def keep(self, which: NDArray[Any]) -> Sequences:
        """These sequences only: a mask or their numbers."""
        twin = object.__new__(Sequences)
        twin.__dict__.update(self.__dict__)
        for name in ("shard", "begin", "length", "document", "closed"):
            setattr(twin, name, getattr(self, name)[which])
        return twin

    def split(self, share: float, most: int) -> tuple[Sequences, Sequences]:
        """(the sequences to train on, those held out): `share` of the documents, drawn by their numbers whatever the seed of
        the run, so that a later stage holds out the same ones. At most `most` sequences are kept of the latter.
        """
        low, zero = (self.document & 0xFFFFFFFF).astype(np.uint64), np.zeros(len(self), np.uint64)
        draw = philox((low, (self.document >> 32).astype(np.uint64), zero, zero), (0, 0x48454C44))[0]
        held = draw < share * 2.0**32
        return self.keep(~held), self.keep(held).some(most)

    def some(self, most: int) -> Sequences:
        """At most `most` of the sequences, always the same ones."""
        return self if len(self) <= most else self.keep(np.sort(permutation(len(self), 0, 0)[:most]))

    def batch(self, numbers: NDArray[np.int64]) -> Batch:
        """These sequences, packed."""
        lengths, closed = self.length[numbers].astype(np.int64), self.closed[numbers]
        before = int(self.cls_id is not None)
        splits = np.zeros(len(numbers) + 1, np.int64)
        np.cumsum(lengths + before + closed, out=splits[1:])
        ids = np.empty(splits[-1], np.int32)
        words = np.zeros(splits[-1], bool)
        if self.cls_id is not None:
            ids[splits[:-1]] = self.cls_id
        if self.sep_id is not None:
            ids[splits[1:][closed] - 1] = self.sep_id
        for row, number in enumerate(numbers):
            corpus, index = self.places[self.shard[number]]
            shard, begin = self.corpora[corpus].shard(index), int(self.begin[number])
            end, to = begin + int(lengths[row]), slice(splits[row] + before, splits[row] + before + int(lengths[row]))
            ids[to] = shard.ids[begin:end]
            words[to] = shard.word_starts(begin, end)
        return Batch(ids, splits, words, np.asarray(numbers, np.int64))

    def digest(self) -> str:
        """A fingerprint of what is read: where every piece lies, and the checksums of the shards."""
        digest = hashlib.sha256()
        for c, i in self.places:
            entry = self.corpora[c].shards[i]
            digest.update(str(entry["sha256"] if isinstance(entry, dict) else entry.sha256).encode())
        for array in (self.shard, self.begin, self.length):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _blocks(splits: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of documents [first, last) with about _BLOCK tokens."""
    first, count = 0, len(splits) - 1
    while first < count:
        last = int(np.searchsorted(splits, splits[first] + _BLOCK, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


class Order:
    """The endless stream of sequence numbers: one permutation an epoch, after one another."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._kept: dict[int, NDArray[np.int64]] = {}

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._kept:
            self._kept = {e: p for e, p in self._kept.items() if e >= epoch - 1}
            self._kept[epoch] = permutation(self.count, self.seed, epoch)
        return self._kept[epoch]

    def take(self, begin: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(numbers, epochs) at places begin..end of the stream, int64 [end - begin]."""
        numbers, epochs = [], []
        while begin < end:
            epoch, place = divmod(begin, self.count)
            part = self._epoch(epoch)[place : place + end - begin]
            numbers.append(part)
            epochs.append(np.full(len(part), epoch, np.int64))
            begin += len(part)
        return np.concatenate(numbers), np.concatenate(epochs)

    def fill(self, step: int, sizes: NDArray[np.int64], room: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(numbers, epochs) of a step that is filled by tokens: an epoch's stream of tokens is cut every `room` of them, and a
        step has the sequences that begin in its part. Every epoch has equally many steps, so that a step needs no history.

        sizes: tokens of each sequence, none above `room`.
        """
        total = int(sizes.sum())
        epoch, place = divmod(step, -(-total // room))
        order = self._epoch(epoch)
        begins = np.cumsum(sizes[order]) - sizes[order]
        numbers = order[np.searchsorted(begins, place * room) : np.searchsorted(begins, (place + 1) * room)]
        if not len(numbers):  # the end of the last sequence only
            numbers = order[-1:]
        return numbers, np.full(len(numbers), epoch, np.int64)
