"""Pairs of texts that belong together, pairs with a score, and queries with a pool: read from files, encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.data import DataError, read_rows
from govlm.train.evaluate import Encoded, encode_texts
from govlm.train.loop import TrainError

__all__ = ["Pairs", "Queries", "ScoredPairs", "read_pairs", "read_scored", "read_texts"]

I64 = NDArray[np.int64]
Pair = tuple[str, str, list[str]]


def _text(path: str | Path, number: int, field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{path}:{number}: field {field!r} must be a string, not {type(value).__name__}")
    return value


def read_pairs(
    path: str | Path,
    left: str = "question",
    right: str = "answer",
    negative: str | None = None,
    format: str | None = None,
    skip: Sequence[str] = ("",),
    same: bool = False,
) -> list[Pair]:
    """(left text, right text, hard negatives) of each row of a JSONL, CSV or TSV file.

    left, right: the fields (question/answer, alias/name, title/body); left may hold a list of texts, then each makes a pair.
    negative: a field with a text, or a list of them, that looks right and is not; it may be missing from a row. skip: values
    that mean "none"; such rows are left out, as are rows with the same text on both sides unless `same`. Errors: DataError, OSError.
    """
    pairs: list[Pair] = []
    none = set(skip)
    for number, row in read_rows(path, [left, right], format):
        texts = row[left] if isinstance(row[left], list) else [row[left]]
        target = _text(path, number, right, row[right])
        wrong = row.get(negative) if negative is not None else None
        wrongs = [] if wrong is None else wrong if isinstance(wrong, list) else [wrong]
        bad = [_text(path, number, str(negative), w) for w in wrongs]
        for text in texts:
            if _text(path, number, left, text) not in none and target not in none and (same or text != target):
                pairs.append((text, target, [w for w in bad if w not in none and w != target]))
    return pairs


def read_texts(path: str | Path, field: str | None = None, format: str | None = None) -> list[str]:
    """The texts of a file: a line each (field=None), or a field of JSONL, CSV or TSV rows; empty ones are left out."""
    from govlm.data import read_blocks

    if field is not None:
        rows = read_rows(path, [field], format)
        texts: Iterable[str] = (_text(path, number, field, row[field]) for number, row in rows)
        return [text for text in texts if text.strip()]
    texts, rest = [], ""
    for block in read_blocks(path):
        lines = (rest + block).split("\n")
        rest = lines.pop()
        texts.extend(line.rstrip("\r") for line in lines if line.strip())
    return [*texts, rest.rstrip("\r")] if rest.strip() else list(texts)


def read_scored(
    path: str | Path, left: str = "0", right: str = "1", score: str = "2", format: str | None = None
) -> list[tuple[str, str, float]]:
    """(text, text, score) of each row, for Spearman; the score is a number (0 and 1 will do)."""
    rows = []
    for number, row in read_rows(path, [left, right, score], format):
        try:
            value = float(row[score])
        except (TypeError, ValueError):
            raise DataError(f"{path}:{number}: field {score!r} must be a number, not {row[score]!r}") from None
        if not np.isfinite(value):
            raise DataError(f"{path}:{number}: field {score!r} is {row[score]}")
        rows.append((_text(path, number, left, row[left]), _text(path, number, right, row[right]), value))
    return rows


class _Texts:
    """Gives every different text a number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))

    def encode(self, model: Any, tokenizer: Any, max_length: int | None) -> Encoded:
        return encode_texts(model, tokenizer, list(self.numbers), max_length)


@dataclass
class Pairs:
    """Pairs to train on. texts: every different text once; left, right: [N] numbers of texts; negatives: [M] numbers of
    texts, row i has negatives[splits[i]:splits[i + 1]].
    """

    texts: Encoded
    left: I64
    right: I64
    negatives: I64
    splits: I64

    def __post_init__(self) -> None:
        count = len(self.texts)
        both = np.concatenate([self.left * count + self.right, self.right * count + self.left])
        self._known = np.unique(both)  # pairs that belong together, either way round

    def __len__(self) -> int:
        return len(self.left)

    @classmethod
    def encode(cls, model: Any, tokenizer: Any, pairs: Sequence[Pair], max_length: int | None = None) -> Pairs:
        """Tokenizes pairs, cut to max_length tokens a text. TrainError when there are none."""
        if not pairs:
            raise TrainError("there is nothing to train on: no pairs")
        texts = _Texts()
        left = np.array([texts.add(p[0]) for p in pairs], np.int64)
        right = np.array([texts.add(p[1]) for p in pairs], np.int64)
        negatives = np.array([texts.add(n) for p in pairs for n in p[2]], np.int64)
        splits = np.concatenate([[0], np.cumsum([len(p[2]) for p in pairs])]).astype(np.int64)
        return cls(texts.encode(model, tokenizer, max_length), left, right, negatives, splits)

    @classmethod
    def same(cls, model: Any, tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> Pairs:
        """Every text paired with itself (SimCSE: dropout makes the difference); a text that occurs twice counts once."""
        if not texts:
            raise TrainError("there is nothing to train on: no texts")
        numbers = _Texts()
        for text in texts:
            numbers.add(text)
        every = np.arange(len(numbers.numbers), dtype=np.int64)
        empty = np.zeros(0, np.int64)
        splits = np.zeros(len(every) + 1, np.int64)
        return cls(numbers.encode(model, tokenizer, max_length), every, every, empty, splits)

    def belong(self, left: I64, right: I64) -> NDArray[np.bool_]:
        """[A] and [B] numbers of texts -> [A, B]: whether they are the same text or a pair of the file."""
        codes = left[:, None] * len(self.texts) + right[None, :]
        at = np.searchsorted(self._known, codes)
        known = self._known[np.minimum(at, len(self._known) - 1)] == codes
        return known | (left[:, None] == right[None, :])

    def choose_negatives(self, rows: I64, each: int, seed: int, epoch: int) -> I64:
        """Up to `each` hard negatives of every row, in turn from epoch to epoch; numbers of texts."""
        if not len(self.negatives) or each == 0:
            return np.zeros(0, np.int64)
        start = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 0x4E]))).integers(0, 1 << 31, len(self))
        chosen = []
        for row in rows:
            begin, count = int(self.splits[row]), int(self.splits[row + 1] - self.splits[row])
            take = min(each, count)
            chosen += [begin + (int(start[row]) + epoch * each + i) % count for i in range(take)]
        return self.negatives[np.array(chosen, np.int64)]

    def digest(self) -> str:
        """A fingerprint of texts and pairs."""
        digest = hashlib.sha256(self.texts.digest().encode())
        for array in (self.left, self.right, self.negatives, self.splits):
            digest.update(array.tobytes())
        return digest.hexdigest()


@dataclass
class ScoredPairs:
    """Pairs with a score, for Spearman. left, right: numbers of texts; scores: [N]."""

    texts: Encoded
    left: I64
    right: I64
    scores: NDArray[np.float64]

    @classmethod
    def encode(
        cls, model: Any, tokenizer: Any, rows: Sequence[tuple[str, str, float]], max_length: int | None = None
    ) -> ScoredPairs:
        texts = _Texts()
        left = np.array([texts.add(r[0]) for r in rows], np.int64)
        right = np.array([texts.add(r[1]) for r in rows], np.int64)
        return cls(texts.encode(model, tokenizer, max_length), left, right, np.array([r[2] for r in rows], np.float64))


@dataclass
class Queries:
    """Queries and the pool that they are searched in. relevant[q]: the rows of the pool that are right."""

    queries: Encoded
    pool: Encoded
    relevant: list[I64]

    @classmethod
    def encode(
        cls,
        model: Any,
        tokenizer: Any,
        pairs: Iterable[Pair],
        pool: Iterable[str] = (),
        max_length: int | None = None,
    ) -> Queries:
        """Every different left text is a query, every different right text (and `pool`) stands in the pool; all right texts
        that a query has a pair with are right.
        """
        queries, texts = _Texts(), _Texts()
        for text in pool:
            texts.add(text)
        found: dict[int, set[int]] = {}
        for left, right, _ in pairs:
            found.setdefault(queries.add(left), set()).add(texts.add(right))
        if not found:
            raise TrainError("there is nothing to search with: no queries")
        relevant = [np.array(sorted(found[q]), np.int64) for q in range(len(found))]
        encode = (model, tokenizer, max_length)
        return cls(queries.encode(*encode), texts.encode(*encode), relevant)
