"""In how many documents each pair of neighbouring Chinese characters stands: what is rare, and what holds together.

The table was counted on pieces of 1,000 characters of public texts (`benchmarks/policy_texts.py` says how); it holds figures, no
text: the pairs of 20 pieces and more, each count as a power of 2 in steps of an eighth.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["FIRST", "Pairs", "document_frequencies", "load", "write"]

FIRST, LAST = 0x4E00, 0x9FA6  # the characters counted, and the one after
_ALONE = 0x7FFF  # in the place of the second character: the first one by itself
_STEPS = 8
_PATH = Path(__file__).resolve().parents[2] / "assets" / "policy" / "pairs.npz"

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """keys [N], rising: first << 15 | second, from FIRST. counts [N]: documents. documents: all that were read."""

    keys: I64
    counts: F32
    documents: int
    least: int

    def _count(self, keys: I64) -> F32:
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.counts[at], self.least / 4).astype(np.float32)

    def rarity(self, points: I64) -> tuple[F32, F32, F32]:
        """Of a text's code points [T]: (idf of each character [T], idf of each pair [T - 1], its pointwise mutual information
        [T - 1]), natural logarithms. Pairs with a character that is not Chinese: an idf as of a rare pair, no information.
        """
        chinese = (points >= FIRST) & (points < LAST)
        own = np.clip(points - FIRST, 0, LAST - FIRST)
        alone = np.where(chinese, self._count(own << 15 | _ALONE), self.least / 4)
        both = chinese[:-1] & chinese[1:]
        together = np.where(both, self._count(own[:-1] << 15 | own[1:]), self.least / 4)
        shared = np.where(both, np.log(together * self.documents / (alone[:-1] * alone[1:])), 0.0)
        idf = lambda count: np.log(self.documents / count).astype(np.float32)  # noqa: E731
        return idf(alone), idf(together), shared.astype(np.float32)


@functools.cache
def load() -> Pairs:
    """The table that comes with the package."""
    with np.load(_PATH) as stored:
        planes, steps = stored["planes"].astype(np.int64), stored["steps"]
        documents, least = stored["documents"].tolist()
    keys = np.cumsum(sum(planes[i] << (8 * i) for i in range(len(planes))))
    return Pairs(keys, (least * 2.0 ** (steps.astype(np.float32) / _STEPS)).astype(np.float32), documents, least)


def document_frequencies(documents: Sequence[str]) -> tuple[I64, I64]:
    """(keys, rising, and in how many of the documents each stands): of pairs, and of single characters."""
    points = np.array([ord(char) for text in documents for char in text + "\n"], np.int64)
    owner = np.repeat(np.arange(len(documents)), [len(text) + 1 for text in documents]) << 30
    chinese = (points >= FIRST) & (points < LAST)
    both = chinese[:-1] & chinese[1:]
    pairs = (owner[:-1] | points[:-1] - FIRST << 15 | points[1:] - FIRST)[both]
    alone = (owner | points - FIRST << 15 | _ALONE)[chinese]
    keys, counts = np.unique(np.unique(np.concatenate([pairs, alone])) & (1 << 30) - 1, return_counts=True)
    return keys, counts


def write(keys: I64, counts: I64, documents: int, least: int = 20, path: Path = _PATH) -> None:
    """Stores the table: the differences of the keys byte by byte, which packs well."""
    kept = counts >= least
    steps = np.round(_STEPS * np.log2(counts[kept] / least)).astype(np.uint8)
    gaps: I64 = np.diff(keys[kept], prepend=0).astype(np.int64)
    planes = np.stack([(gaps >> (8 * i) & 255).astype(np.uint8) for i in range(4)])
    np.savez_compressed(path, planes=planes, steps=steps, documents=np.array([documents, least]))
