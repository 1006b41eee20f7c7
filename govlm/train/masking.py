"""Dynamic whole-word masking: which tokens a masked LM has to guess, anew in every epoch.

Devlin et al. (arXiv:1810.04805): 15 % of the tokens are chosen; of these 80 % become [MASK], 10 % a random token, 10 % stay.
Whole words (Cui et al., arXiv:1906.08101): a word's tokens are chosen together. The draw is anew in every epoch (Liu et al.,
arXiv:1907.11692). Every number is a function of the seed, the epoch, the sequence and the token's place in it only: batches,
ranks and threads do not matter, and a resumed run draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["IGNORED", "Masked", "Masker", "philox"]

IGNORED = -100  # the label of a token that is not to be guessed

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW, _HIGH = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: tuple[NDArray[np.uint64], ...], key: tuple[int, int]) -> tuple[NDArray[np.uint64], ...]:
    """Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3; SC 2011), for many counters at once.

    counter: four arrays of one shape, below 2**32; key: two numbers below 2**32. Returns four such arrays.
    """
    a, b, c, d = counter
    left, right = key
    for _ in range(10):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            (second >> _HIGH) ^ b ^ np.uint64(left),
            second & _LOW,
            (first >> _HIGH) ^ d ^ np.uint64(right),
            first & _LOW,
        )
        left, right = (left + _WEYL[0]) & 0xFFFFFFFF, (right + _WEYL[1]) & 0xFFFFFFFF
    return a, b, c, d


@dataclass
class Masked:
    """ids: int32 [T], what the model sees; labels: int64 [T], the token to be guessed or IGNORED; uniform: float64 [T], one
    more number in [0, 1) for every token; count: tokens to be guessed.
    """

    ids: NDArray[np.int32]
    labels: NDArray[np.int64]
    uniform: NDArray[np.float64]
    count: int


class Masker:
    """Masks packed batches.

    vocab_size: V. mask_id: the id of [MASK]. special_ids: tokens that are never chosen and never put in ([CLS], [SEP], [UNK]
    …): a word that holds one is left. probability: share of the other tokens that is chosen. replace: shares of the chosen
    that become [MASK] and a random token; the rest stays. Errors: ValueError for shares out of range.
    """

    def __init__(
        self,
        vocab_size: int,
        mask_id: int,
        special_ids: list[int],
        probability: float = 0.15,
        replace: tuple[float, float] = (0.8, 0.1),
    ) -> None:
        if not 0 < probability <= 1:
            raise ValueError(f"mask_probability must be above 0 and at most 1, not {probability!r}")
        if min(replace) < 0 or sum(replace) > 1:
            raise ValueError(f"the shares {replace!r} of masked and random tokens must be 0 or more and at most 1 together")
        self.mask_id, self.probability = mask_id, probability
        self.special = np.zeros(vocab_size, bool)
        self.special[[*special_ids, mask_id]] = True
        self.ordinary = np.flatnonzero(~self.special).astype(np.int32)
        self.thresholds = replace[0] * 2.0**32, (replace[0] + replace[1]) * 2.0**32

    @classmethod
    def of(cls, tokenizer: Any, vocab_size: int, probability: float = 0.15) -> Masker:
        """For texts that this tokenizer made."""
        return cls(vocab_size, int(tokenizer.mask_token_id), sorted(set(tokenizer.all_special_ids)), probability)

    def __call__(
        self,
        ids: NDArray[np.int32],
        row_splits: NDArray[np.int64],
        word_starts: NDArray[np.bool_] | None,
        sequences: NDArray[np.int64],
        seed: int,
        epochs: NDArray[np.int64] | int = 0,
    ) -> Masked:
        """Masks a batch.

        ids [T], row_splits [B+1]: the packed batch, special tokens included; word_starts [T]: True where a word begins,
        or None: each token is a word;
        sequences [B]: the number of each sequence in the corpus; epochs [B] or one number: the pass over the corpus.
        Every sequence with an ordinary token gives at least one to guess.
        """
        if word_starts is None:
            word_starts = np.ones(len(ids), bool)
        lengths = np.diff(row_splits)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        place = (np.arange(len(ids)) - row_splits[rows]).astype(np.uint64)
        numbers = np.asarray(sequences, np.uint64)
        turns = np.broadcast_to(np.asarray(epochs, np.uint64), numbers.shape)
        counter = (place, (numbers & _LOW)[rows], (numbers >> _HIGH)[rows], turns[rows])
        score, action, fresh, extra = philox(counter, (seed & 0xFFFFFFFF, 0x4D41534B))
        chosen = self._choose(ids, rows, len(lengths), word_starts, score)
        masked = ids.copy()
        masked[chosen & (action < self.thresholds[0])] = self.mask_id
        swapped = chosen & (action >= self.thresholds[0]) & (action < self.thresholds[1])
        masked[swapped] = self.ordinary[(fresh[swapped] * np.uint64(len(self.ordinary))) >> _HIGH]
        labels = np.where(chosen, ids, IGNORED).astype(np.int64)
        return Masked(masked, labels, np.asarray(extra, np.float64) * 2.0**-32, int(chosen.sum()))

    def _choose(
        self,
        ids: NDArray[np.int32],
        rows: NDArray[np.int64],
        count: int,
        word_starts: NDArray[np.bool_],
        score: NDArray[np.uint64],
    ) -> NDArray[np.bool_]:
        """The chosen tokens, bool [T]: words in the order of their scores while their middle lies within the sequence's share."""
        special = self.special[ids]
        before = np.ones(len(ids), bool)
        before[1:] = special[:-1] | (rows[1:] != rows[:-1])
        begins = word_starts | before | special
        starts = np.flatnonzero(begins)
        if not len(starts):
            return np.zeros(0, bool)
        sizes = np.diff(np.append(starts, len(ids)))
        row = rows[starts]
        ordinary = ~special[starts]
        share = self.probability * np.bincount(rows, weights=~special, minlength=count)
        words = np.flatnonzero(ordinary)
        sizes, row = sizes[words], row[words]
        # A word longer than the whole share comes last: only a sequence with nothing else has to guess it.
        order = np.lexsort((score[starts[words]], sizes > np.maximum(share[row], 1), row))
        sizes, row = sizes[order], row[order]
        ends = np.cumsum(sizes)
        first = np.ones(len(row), bool)
        first[1:] = row[1:] != row[:-1]
        offset = np.repeat((ends - sizes)[first], np.diff(np.append(np.flatnonzero(first), len(row))))
        good = first | (ends - offset - sizes / 2 <= share[row])
        taken = np.zeros(len(starts), bool)
        taken[words[order[good]]] = True
        return np.repeat(taken, np.diff(np.append(starts, len(ids))))
