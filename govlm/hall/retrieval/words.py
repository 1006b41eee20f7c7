"""BM25 over the characters and pairs of entries (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009): bm25s reckons what
each word is worth to each entry, once; asking adds it up from plain arrays and does not read that library."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Words"]

_NOTHING = " "  # the word of an entry without words: bm25s wants one, and no query has it
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """places: of each word. Word i is worth worth[j] to entry owners[j], j from splits[i] to splits[i + 1]; count: entries."""

    places: Mapping[str, int]
    splits: I64
    owners: NDArray[np.int32]
    worth: F32
    count: int

    @classmethod
    def make(cls, entries: Sequence[Sequence[str]], k1: float = 1.2, b: float = 0.75) -> Words:
        """entries: the words of each. k1: how much more a word says that stands there twice; b: how much less in a long entry."""
        import bm25s
        from tqdm import tqdm

        # bm25s draws its bars with tqdm, whose own lock is for all processes: one that ends by a signal would leave a semaphore behind
        if not hasattr(tqdm, "_lock"):
            tqdm.set_lock(threading.RLock())
        index = bm25s.BM25(k1=k1, b=b)
        index.index([list(words) or [_NOTHING] for words in entries] or [[_NOTHING]], show_progress=False)
        found = index.scores
        splits, owners = np.asarray(found["indptr"], np.int64), np.asarray(found["indices"], np.int32)
        return cls(index.vocab_dict, splits, owners, np.asarray(found["data"], np.float32), int(found["num_docs"]))

    def shares(self, words: Sequence[str]) -> F32:
        """[entries] the scores of a query's words over the best of them: 0 to 1."""
        known = [place for word in words if (place := self.places.get(word)) is not None]
        scores = np.zeros(self.count, np.float32)
        if not known:
            return scores
        # As bm25s adds, in the same order, but all words at once: one by one takes several times as long.
        begins, ends = self.splits[known], self.splits[np.array(known) + 1]
        sizes = ends - begins
        places = np.repeat(begins - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
        np.add.at(scores, self.owners[places], self.worth[places])
        scores /= max(float(scores.max()), 1e-9)
        return scores

    # ---- keeping: arrays, and the words in the order of their places

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """For a file."""
        return {f"{prefix}.{name}": getattr(self, name) for name in ("splits", "owners", "worth")}

    def listed(self) -> list[str]:
        return sorted(self.places, key=self.places.__getitem__)

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str, listed: Sequence[str], count: int) -> Words:
        splits, owners, worth = (arrays[f"{prefix}.{name}"] for name in ("splits", "owners", "worth"))
        return cls({word: place for place, word in enumerate(listed)}, splits, owners, worth, count)  # type: ignore[arg-type]
