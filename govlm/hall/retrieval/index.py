"""An index over entries (items, or passages of documents): what is stored, and how each entry fits a query.

A query meets an entry in three ways: BM25 over all its words, the similarity of sentence vectors, and the fit of its names, by
characters and by sound. Each gives features; `ranking.py` weighs them into one score.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.hall.retrieval.characters import Characters, normalised
from govlm.hall.retrieval.dense import Vectors
from govlm.hall.retrieval.names import FEATURES, LONGEST, Names

__all__ = ["FEATURE_NAMES", "Entry", "Index", "Query"]

_FORMAT = 1
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Encode = Callable[[Sequence[str]], F32]  # texts -> [N, H], of length 1

FEATURE_NAMES = (
    "bm25", "bm25 of names", "similarity", "similarity of the first name",
    *(f"first name: {name}" for name in FEATURES), "first name: sum",
    *(f"best name: {name}" for name in FEATURES), "best name: sum",
    *(f"by sound: {name}" for name in FEATURES), "by sound: sum",
)  # fmt: skip


class Entry(NamedTuple):
    """names: the first is its own, others are aliases. text: what else is said of it. parts: texts to embed beside the names."""

    key: str
    names: tuple[str, ...]
    text: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """A text made ready: its plain codes, what is heard, and its vector [H]."""

    text: str
    codes: I32
    sounds: I32
    vector: F32


class Index:
    """Entries to ask. Made by `Index.make`, kept by `save`, mapped by `Index.open`; never changed: a new catalogue gets a new one."""

    def __init__(
        self, keys: list[str], name_splits: NDArray[np.int64], vector_splits: NDArray[np.int64], characters: Characters,
        names: Names, sounds: Names, vectors: Vectors, words: Any, words_of_names: Any,
    ) -> None:  # fmt: skip
        self.keys = keys
        self.characters = characters
        self._name_splits, self._vector_splits = name_splits, vector_splits
        self._names, self._sounds, self._vectors = names, sounds, vectors
        self._words, self._words_of_names = words, words_of_names

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def make(cls, entries: Sequence[Entry], encode: Encode, characters: Characters | None = None) -> Index:
        """encode: sentence vectors of texts. characters: to share the tables of another index."""
        characters = characters or Characters.make()
        names = [(i, name) for i, entry in enumerate(entries) for name in dict.fromkeys(entry.names)]
        embedded = [(i, text) for i, entry in enumerate(entries) for text in dict.fromkeys((*entry.names, *entry.parts))]
        owners = [i for i, _ in names]
        codes = [characters.codes(name) for _, name in names]
        return cls(
            [entry.key for entry in entries],
            _splits(owners, len(entries)),
            _splits([i for i, _ in embedded], len(entries)),
            characters,
            Names.make(codes, owners),
            Names.make([characters.sounds(name) for _, name in names], owners),
            Vectors.make(encode([text for _, text in embedded])),
            _bm25([[*_grams(characters, " ".join((*entry.names, entry.text)))] for entry in entries]),
            _bm25([[*_grams(characters, " ".join(entry.names))] for entry in entries]),
        )

    # ------------------------------------------------------------------------------------------------------------- asking

    def query(self, text: str, encode: Encode) -> Query:
        """A long text is asked by its beginning and its end: 3/4 and 1/4 of 256 characters."""
        if len(text) > LONGEST:
            text = text[: LONGEST * 3 // 4] + text[-LONGEST // 4 :]
        return Query(text, self.characters.codes(text), self.characters.sounds(text), encode([text])[0])

    def features(self, query: Query) -> F32:
        """[entries, len(FEATURE_NAMES)]; 0 where nothing fits. An index without entries gives [0, …]."""
        if not self.keys:
            return np.zeros((0, len(FEATURE_NAMES)), np.float32)
        grams = [*_grams(self.characters, query.text)]
        similar = self._vectors.scores(query.vector[None])[0]
        columns = [
            _share(self._words, grams),
            _share(self._words_of_names, grams),
            np.maximum.reduceat(similar, self._vector_splits[:-1]),
            similar[self._vector_splits[:-1]],
        ]
        first = self._name_splits[:-1]
        by_name = _with_sum(self._names.features(query.codes))
        by_sound = _with_sum(self._sounds.features(query.sounds))
        parts = [by_name[first], np.maximum.reduceat(by_name, first), np.maximum.reduceat(by_sound, first)]
        return np.concatenate([np.stack(columns, 1), *parts], axis=1).astype(np.float32)

    # ------------------------------------------------------------------------------------------------------------ keeping

    def save(self, folder: Path) -> None:
        """A new folder; whatever is there is replaced."""
        from safetensors.numpy import save_file

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._words.save(str(folder / "words"), show_progress=False)
        self._words_of_names.save(str(folder / "names"), show_progress=False)
        arrays: dict[str, NDArray[Any]] = {
            "name_splits": self._name_splits, "vector_splits": self._vector_splits, "plain": self.characters.plain,
            "sound": self.characters.sound, **self._names.arrays("names"), **self._sounds.arrays("sounds"),
            **self._vectors.arrays("vectors"),
        }  # fmt: skip
        save_file(arrays, folder / "arrays.safetensors")
        head = {"format": _FORMAT, "keys": self.keys, "vectors": self._vectors.count}
        (folder / "index.json").write_text(json.dumps(head, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> Index:
        """ValueError when it is of another version; OSError."""
        import bm25s
        from safetensors.numpy import load_file

        head = json.loads((folder / "index.json").read_text("utf-8"))
        if head.get("format") != _FORMAT:
            raise ValueError(f"{folder}: an index of format {head.get('format')}, this version reads {_FORMAT}: make it again")
        arrays = load_file(folder / "arrays.safetensors")
        words, names = (bm25s.BM25.load(str(folder / part), show_progress=False) for part in ("words", "names"))
        return cls(
            head["keys"], arrays["name_splits"], arrays["vector_splits"], Characters(arrays["plain"], arrays["sound"]),
            Names.read(arrays, "names"), Names.read(arrays, "sounds"), Vectors.read(arrays, "vectors", head["vectors"]),
            words, names,
        )  # fmt: skip


def _splits(owners: Sequence[int], count: int) -> NDArray[np.int64]:
    splits = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(np.asarray(owners, np.int64), minlength=count), out=splits[1:])
    return splits


def _grams(characters: Characters, text: str) -> list[str]:
    """Characters and pairs of them, within what no punctuation parts; words of letters and digits are whole, too."""
    found: list[str] = []
    for piece in normalised(characters.codes(text)).split():
        found += piece
        found += [piece[i : i + 2] for i in range(len(piece) - 1)]
    return found


def _bm25(documents: list[list[str]]) -> Any:
    import bm25s

    index = bm25s.BM25(k1=1.2, b=0.75)
    index.index(documents or [[""]], show_progress=False)
    return index


def _share(index: Any, grams: list[str]) -> F32:
    """[entries] BM25 scores over the best of them: 0 to 1."""
    known = [gram for gram in grams if gram in index.vocab_dict]
    if not known:
        return np.zeros(index.scores["num_docs"], np.float32)
    scores: F32 = index.get_scores(known)
    return scores / max(float(scores.max()), 1e-9)


def _with_sum(features: F32) -> F32:
    return np.concatenate([features, features.sum(axis=1, keepdims=True)], axis=1)
