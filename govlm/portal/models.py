"""The models that other systems may call, each a lane of the batcher: the hall's encoder, and fine-tuned classifiers by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.hall.hall import ENCODED, Hall
from govlm.portal.batching import Lane, Ready

__all__ = ["Classified", "Classifiers", "Embedder"]


class Classified(NamedTuple):
    """label: the likeliest, or all that hold where several may; score: its chance; scores: of every label."""

    label: str | list[str]
    score: float
    scores: dict[str, float]


class Embedder:
    """Vectors of texts. limit: tokens of a text that are read (default: as many as the model takes). normalize: to length 1 (default: as
    the model was trained)."""

    def __init__(self, encoder: Callable[[], Any], limit: int | None = None, normalize: bool | None = None) -> None:
        self._made, self._limit, self._normalize = encoder, limit, normalize

    @cached_property
    def model(self) -> Any:
        return self._made()

    @property
    def loaded(self) -> bool:
        return "model" in self.__dict__

    @cached_property
    def _tokenizer(self) -> Any:
        from govlm.tokenizers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.model.config.name_or_path)

    @property
    def dimension(self) -> int:
        return int(self.model.config.hidden_size)

    def prepare(self, texts: Sequence[str]) -> list[Ready]:
        from govlm.train.evaluate import text_limit

        limit = text_limit(self.model, self._limit)
        packed = self._tokenizer.encode_packed(list(texts), truncation=True, max_length=limit)
        return [Ready(int(b - a), packed.ids[a:b]) for a, b in zip(packed.row_splits, packed.row_splits[1:], strict=False)]

    def work(self, ready: Sequence[Ready]) -> Sequence[NDArray[np.float32]]:
        return list(self.model.encode(_packed(ready), normalize=self._normalize))

    def count(self, text: str) -> int:
        """Tokens of a text, all of it, without the signs around it."""
        return int(self._tokenizer.encode_packed([text]).row_splits[-1]) - 2


class _Fitted:
    """A classifier that `govlm finetune` made."""

    def __init__(self, folder: str) -> None:
        from govlm.train.evaluate import Classifier

        self._classifier = Classifier.from_pretrained(folder)

    def prepare(self, texts: Sequence[str]) -> list[Ready]:
        from govlm.train.evaluate import encode_texts

        made = self._classifier
        encoded = encode_texts(made.model, made.tokenizer, list(texts), made.max_length, made.branch)
        splits = encoded.row_splits
        offsets = [None] * len(texts) if encoded.offset is None else list(encoded.offset)
        return [
            Ready(int(b - a), (encoded.ids[a:b], offset)) for a, b, offset in zip(splits, splits[1:], offsets, strict=False)
        ]

    def work(self, ready: Sequence[Ready]) -> Sequence[Classified]:
        from govlm.train.evaluate import Encoded, predict_logits
        from govlm.train.metrics import softmax

        made = self._classifier
        packed = _packed([Ready(entry.tokens, entry.data[0]) for entry in ready])
        offset = None if ready[0].data[1] is None else np.stack([entry.data[1] for entry in ready])
        logits = predict_logits(made.model, Encoded(packed.ids, packed.row_splits, None, made.names, offset=offset), len(ready))
        rows = 1 / (1 + np.exp(-logits.astype(np.float64))) if made.multi_label else softmax(logits)
        return [self._named(row) for row in rows]

    def _named(self, row: Any) -> Classified:
        scores = {name: float(chance) for name, chance in zip(self._classifier.names, row, strict=True)}
        best = int(row.argmax())
        label: str | list[str] = self._classifier.names[best]
        if self._classifier.multi_label:
            label = [name for name, chance in scores.items() if chance > 0.5]
        return Classified(label, float(row[best]), scores)


class Classifiers:
    """Those that the settings name, and "" = the hall's own: business types. Read at first use, from a thread that may wait."""

    def __init__(self, hall: Hall, folders: Mapping[str, str]) -> None:
        self._hall, self._folders = hall, folders
        self._read: dict[str, _Fitted] = {}
        self._lock = threading.Lock()
        self.vectors = Embedder(lambda: hall.encoder, ENCODED, True)  # as the hall makes them

    @property
    def names(self) -> list[str]:
        return list(self._folders)

    def fitted(self, name: str) -> Lane:
        """KeyError: no such name; OSError, ValueError: its folder cannot be read."""
        with self._lock:
            if name not in self._read:
                self._read[name] = _Fitted(self._folders[name])
            return self._read[name]

    def readable(self, texts: Sequence[str]) -> list[str]:
        """What of the texts is encoded for `business`."""
        understander = self._hall.library.understander
        return [understander.readable(text) for text in texts]

    def business(self, texts: Sequence[str], vectors: Sequence[NDArray[np.float32]]) -> list[Classified]:
        """The business types of texts, as `readable` gave them; "" where a text says nothing."""
        understander = self._hall.library.understander
        found = []
        for text, vector in zip(texts, vectors, strict=True):
            scores = understander.businesses(text, vector)
            best = max(scores, key=scores.__getitem__) if scores else ""
            found.append(Classified(best, scores.get(best, 0.0), scores))
        return found


def _packed(ready: Sequence[Ready]) -> Any:
    from govlm.tokenizers import Packed

    splits = np.zeros(len(ready) + 1, np.int64)
    np.cumsum([entry.tokens for entry in ready], out=splits[1:])
    return Packed(np.concatenate([entry.data for entry in ready]), splits)
