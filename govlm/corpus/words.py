"""Which tokens begin a word: what whole-word masking needs to know of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.corpus.shards import CorpusError

__all__ = ["Encoder", "words_available"]


def words_available() -> bool:
    """Whether rjieba is installed."""
    import importlib.util

    return importlib.util.find_spec("rjieba") is not None


class Encoder:
    """Texts -> ids and word starts, a batch at a time.

    words: Chinese words from rjieba (a port of jieba's segmenter); False: each word that the tokenizer sees, so each Chinese
    character, begins one. A continuation piece ("##…") never does; of a tokenizer without them every token may. CorpusError when words are wanted without rjieba.
    """

    def __init__(self, tokenizer: Any, words: bool) -> None:
        self._native = tokenizer._native  # offsets as arrays; the public call makes lists of them
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        unknown = tokenizer.unk_token_id
        self.unknown_id = -1 if unknown is None else int(unknown)  # bytes know every text
        self._continues = np.zeros(self.vocab_size, np.bool_)
        prefix = getattr(tokenizer, "wordpieces_prefix", None)
        if prefix:
            self._continues[[i for token, i in vocabulary.items() if token.startswith(prefix) and token != prefix]] = True
        self._cut: Any = None
        if words:
            try:
                import rjieba
            except ImportError:
                raise CorpusError(
                    'words come from rjieba, which is not installed: pip install "govlm[corpus]", or --no-words'
                ) from None
            self._cut = rjieba

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]:
        """ids int32 [T] without special tokens, splits int64 [B + 1], starts bool [T]."""
        if self._cut is None:
            ids, splits = self._native.encode(texts)
            return ids, splits, ~self._continues[ids]
        ids, splits, begins, _, _ = self._native.encode(texts, offsets=True)
        # Number the words of the whole batch, then look up the word at each token's first character.
        lengths = np.concatenate([self._lengths(text) for text in texts]) if texts else np.zeros(0, np.int64)
        sizes = np.array([len(text) for text in texts], np.int64)
        word_of = np.repeat(np.arange(len(lengths)), lengths)
        places = np.repeat(np.cumsum(sizes) - sizes, np.diff(splits)) + begins
        words = word_of[places]
        starts = np.ones(len(ids), np.bool_)
        starts[1:] = words[1:] != words[:-1]
        return ids, splits, starts & ~self._continues[ids]

    def _lengths(self, text: str) -> NDArray[np.int64]:
        """The lengths of the text's words; they cover it."""
        words = self._cut.cut(text)
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        if lengths.sum() == len(text):
            return lengths
        ends = sorted({end for _, _, end in self._cut.tokenize(text)} | {len(text)})
        return np.array([end - begin for begin, end in zip([0, *ends], ends, strict=False)], np.int64)
