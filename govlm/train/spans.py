"""Span corruption: what an encoder-decoder learns before it has a task.

Raffel et al. (arXiv:1910.10683, section 3.1.4 and appendix): 15 % of the tokens are hidden, in spans of 3 on average. The encoder
sees a sentinel in the place of each span, the decoder writes each sentinel and what it hides. Numbers and lengths as in T5's own
code: a piece begins with a token that stays and ends with a hidden one. Of a share of the pieces the spans stay readable behind
their sentinels: what is to be written is then copied, and a model that is to summarise does not unlearn it. The draw is a function
of the seed, the epoch, the sequence and the place in it only, as in masking.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.train.loop import TrainError
from govlm.train.masking import philox

__all__ = ["SENTINELS", "SpanCorruption", "hidden_spans", "make_sentinels"]

SENTINELS = 100  # <extra_id_0> … <extra_id_99>, as T5 has them

I32 = NDArray[np.int32]


def make_sentinels(tokenizer: Any) -> I32:
    """The ids of <extra_id_0> …, in order; added to a tokenizer that has none (its vocabulary then grows by SENTINELS)."""
    names = [f"<extra_id_{n}>" for n in range(SENTINELS)]
    vocabulary = tokenizer.get_vocab()
    if names[0] not in vocabulary:
        tokenizer.add_special_tokens({"additional_special_tokens": names})
        vocabulary = tokenizer.get_vocab()
    return np.array([vocabulary[name] for name in names if name in vocabulary], np.int32)


def hidden_spans(
    length: int, probability: float, mean: float, scores: tuple[NDArray[Any], NDArray[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(lengths of the runs that stay, lengths of the spans hidden behind each of them), both int64 [spans].

    length: tokens of the piece, 2 or more; scores: two draws [length or more] that decide where runs and spans are cut.
    """
    hidden = min(max(round(length * probability), 1), length - 1)
    spans = min(max(round(hidden / mean), 1), hidden, length - hidden)
    return _parts(length - hidden, spans, scores[0]), _parts(hidden, spans, scores[1])


def _parts(total: int, count: int, scores: NDArray[Any]) -> NDArray[np.int64]:
    """`count` positive numbers with the sum `total`, each way equally likely: the lowest scores say where it is cut."""
    cuts = np.sort(np.argsort(scores[: total - 1], kind="stable")[: count - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)


class SpanCorruption:
    """Hides spans of packed pieces.

    sentinels: their ids, in order; probability: share that is hidden; mean: tokens a span; copied: share of the pieces whose spans
    stay readable. Errors: ValueError out of range.
    """

    def __init__(self, sentinels: I32, probability: float = 0.15, mean: float = 3.0, copied: float = 0.0) -> None:
        if not 0 < probability < 1 or mean < 1 or not 0 <= copied <= 1:
            raise ValueError(
                f"shares in 0..1 and a mean length of 1 or more are needed, not {probability!r}, {copied!r} and {mean!r}"
            )
        self.sentinels, self.probability, self.mean = np.asarray(sentinels, np.int32), probability, mean
        self.copied = copied

    def always(self, copied: bool) -> SpanCorruption:
        """The same of pieces that are all copied from, or all guessed."""
        return SpanCorruption(self.sentinels, self.probability, self.mean, float(copied))

    def __call__(
        self,
        ids: I32,
        row_splits: NDArray[np.int64],
        sequences: NDArray[np.int64],
        seed: int,
        epochs: NDArray[np.int64] | int = 0,
    ) -> list[tuple[I32, I32]]:
        """(what the encoder sees, what the decoder writes) of each piece, without special tokens but the sentinels.

        Arguments as Masker's. A piece of one token is hidden whole. Errors: TrainError for more spans than sentinels.
        """
        low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
        turns = np.broadcast_to(np.asarray(epochs, np.uint64), sequences.shape)
        found = []
        for row, (number, turn) in enumerate(zip(np.asarray(sequences, np.uint64), turns, strict=True)):
            piece = ids[row_splits[row] : row_splits[row + 1]]
            place = np.arange(len(piece), dtype=np.uint64)
            counter = (place, np.full_like(place, number & low), np.full_like(place, number >> high), np.full_like(place, turn))
            stay, hide, copy = philox(counter, (seed & 0xFFFFFFFF, 0x5350414E))[:3]
            readable = len(piece) > 0 and int(copy[0]) < self.copied * 2**32
            found.append(self._corrupt(piece, (stay, hide), readable))
        return found

    def _corrupt(self, piece: I32, scores: tuple[NDArray[Any], NDArray[Any]], readable: bool = False) -> tuple[I32, I32]:
        if len(piece) < 2:
            whole = np.concatenate([self.sentinels[: len(piece)], piece])
            return whole if readable else self.sentinels[: len(piece)], whole
        stay, hide = hidden_spans(len(piece), self.probability, self.mean, scores)
        if len(stay) > len(self.sentinels):
            raise TrainError(f"a piece of {len(piece)} tokens has {len(stay)} spans, there are {len(self.sentinels)} sentinels")
        ends = np.cumsum(stay + hide)
        begins = ends - hide  # of the hidden spans
        source: list[I32] = []
        target: list[I32] = []
        for n, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            source += [piece[begin - stay[n] : begin], self.sentinels[n : n + 1], piece[begin : end if readable else begin]]
            target += [self.sentinels[n : n + 1], piece[begin:end]]
        return np.concatenate(source), np.concatenate(target)
