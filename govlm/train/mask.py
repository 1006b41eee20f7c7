"""Masked tokens for losses beside pre-training (distillation, pruning, a head kept while embeddings are trained)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from govlm.train.evaluate import Encoded

__all__ = ["mask_texts"]

RATE = 0.15


def mask_texts(
    texts: Encoded, mask_id: int, vocab_size: int, key: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(ids, labels), both [T]: 15 % of the tokens are to be guessed, labels are -100 elsewhere (arXiv:1810.04805).

    Of the chosen, 80 % become the mask token, 10 % a random one, 10 % stay. The first and the last token of a text ([CLS] and
    [SEP]) are never chosen; a text of at least one more has one chosen. key: what the random numbers are a function of.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key))))
    count = len(texts.ids)
    draw, kind, other = generator.random(count), generator.random(count), generator.integers(0, vocab_size, count)
    begins, ends = texts.row_splits[:-1], texts.row_splits[1:]
    inner = np.ones(count, bool)
    inner[begins[ends > begins]] = False
    inner[ends[ends > begins] - 1] = False
    draw[~inner] = 2.0
    chosen = draw < RATE
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if end - begin > 2 and not chosen[begin:end].any():
            chosen[begin + int(draw[begin:end].argmin())] = True
    labels = np.where(chosen, texts.ids, -100).astype(np.int64)
    ids = np.where(chosen & (kind < 0.8), mask_id, np.where(chosen & (kind >= 0.9), other, texts.ids))
    return ids.astype(np.int32), labels
