"""An index over entries (items, or passages of documents): what is stored, and how each entry fits a query.

A query meets an entry in three ways: BM25 over all its words, the similarity of sentence vectors, and the fit of its names and
examples, by characters and by sound. Each gives features; `ranking.py` weighs them into one score.
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
from govlm.hall.retrieval.dense import VectorSet, make_vectors, open_vectors
from govlm.hall.retrieval.names import FEATURES, LONGEST, Names
from govlm.hall.retrieval.words import Words

__all__ = ["FEATURE_NAMES", "Encode", "Entry", "Index", "Query", "shortened"]

_FORMAT = 3
_OF_NAMES = 0.3, 0.9  # BM25's k1 and b for names: a character that stands there twice says little more
_LOOKED_AT, _NEAR = 50_000, 1000  # texts of an index whose fit is all looked at; entries that are, of a larger one
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Encode = Callable[[Sequence[str]], F32]  # texts -> [N, H], of length 1

_BASE = (
    "words", "words of names", "similarity of names", "similarity of the first name", "similarity of examples",
    *(f"{group}: {name}" for group in ("first name", "best name", "name by sound", "best example", "example by sound")
      for name in (*FEATURES, "sum")),
)  # fmt: skip
# How telling a feature is depends on whether the entry has examples, and whether the query is a name or a sentence.
FEATURE_NAMES = tuple(f"{name} ({of})" for of in ("with examples", "without", "without, short query") for name in _BASE)
_FIT = len(FEATURES) + 1  # with their sum
_SHORT = 12.0  # letters of a query that is half a name, half a sentence


class Entry(NamedTuple):
    """names: the first is its own, others are aliases. examples: sentences that mean it. text: what else is said of it."""

    key: str
    names: tuple[str, ...]
    examples: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Query:
    """A text made ready: its plain codes, what is heard, and its vector [H]."""

    text: str
    codes: I32
    sounds: I32
    vector: F32

    @property
    def shortness(self) -> float:
        """Near 1 for a name, near 0 for a sentence."""
        return float(1 / (1 + np.exp((np.count_nonzero(self.codes) - _SHORT) / 3)))


class _Groups:
    """Which texts are an entry's names and which its examples, so that most entries, which have one name and no example, are only read.

    first [entries]: the first name, behind all texts where there is none. several: entries of more than one name, whose names begin at
    names_begin in `names`. with_examples, examples_begin, examples: the same of entries with examples.
    """

    def __init__(self, bounds: NDArray[np.int64]) -> None:
        """bounds: as for Index."""
        begins, ends = bounds[:-1], bounds[1:]
        self.first = np.where(begins[0::2] < ends[0::2], begins[0::2], bounds[-1])
        self.several, self.names_begin, self.names = _rows(begins[0::2], ends[0::2], 2)
        self.with_examples, self.examples_begin, self.examples = _rows(begins[1::2], ends[1::2], 1)


def _rows(begins: NDArray[np.int64], ends: NDArray[np.int64], least: int) -> tuple[NDArray[np.int64], ...]:
    """(groups of at least so many texts, where each begins among the texts, the texts)."""
    which = np.flatnonzero(ends - begins >= least)
    sizes = (ends - begins)[which]
    texts = [np.arange(begins[i], ends[i]) for i in which]
    return which, np.cumsum(sizes) - sizes, np.concatenate([np.zeros(0, np.int64), *texts])


def shortened(text: str) -> str:
    """The beginning and the end of a long text: 3/4 and 1/4 of 256 characters."""
    return text if len(text) <= LONGEST else text[: LONGEST * 3 // 4] + text[-LONGEST // 4 :]


class Index:
    """Entries to ask. Made by `Index.make`, kept by `save`, mapped by `Index.open`; never changed: a new catalogue gets a new one."""

    def __init__(
        self, keys: list[str], bounds: NDArray[np.int64], characters: Characters, plain: Names, sound: Names, vectors: VectorSet,
        words: Words, words_of_names: Words,
    ) -> None:  # fmt: skip
        """bounds [2 * entries + 1]: where in the list of all texts an entry's names begin, and its examples."""
        self.keys = keys
        self.characters = characters
        self._bounds = bounds
        self._plain, self._sound, self._vectors = plain, sound, vectors
        self._words, self._words_of_names = words, words_of_names
        self._groups = _Groups(bounds)

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def make(cls, entries: Sequence[Entry], encode: Encode, characters: Characters | None = None) -> Index:
        """encode: sentence vectors of texts. characters: to share the tables of another index."""
        characters = characters or Characters.make()
        groups = [tuple(dict.fromkeys(group)) for entry in entries for group in (entry.names, entry.examples)]
        bounds = np.zeros(len(groups) + 1, np.int64)
        np.cumsum([len(group) for group in groups], out=bounds[1:])
        texts = [text for group in groups for text in group]
        owners = [place // 2 for place, group in enumerate(groups) for _ in group]
        return cls(
            [entry.key for entry in entries],
            bounds,
            characters,
            Names.make([characters.codes(text) for text in texts], owners),
            Names.make([characters.sounds(text) for text in texts], owners),
            make_vectors(encode(texts)),
            Words.make([_grams(characters, " ".join((*entry.names, *entry.examples, entry.text))) for entry in entries]),
            Words.make([_grams(characters, " ".join(entry.names)) for entry in entries], *_OF_NAMES),
        )

    # ------------------------------------------------------------------------------------------------------------- asking

    def query(self, text: str, encode: Encode) -> Query:
        """A long text is asked by its beginning and its end: 3/4 and 1/4 of 256 characters."""
        text = shortened(text)
        return self.made(text, encode([text])[0])

    def made(self, text: str, vector: F32) -> Query:
        """As `query`, of a text that is `shortened` already and its vector."""
        return Query(text, self.characters.codes(text), self.characters.sounds(text), vector)

    def features(self, query: Query) -> F32:
        """[entries, len(FEATURE_NAMES)]; 0 where nothing fits. An index without entries gives [0, …]."""
        if not self.keys:
            return np.zeros((0, len(FEATURE_NAMES)), np.float32)
        grams = _grams(self.characters, query.text)
        similar = self._vectors.scores(query.vector[None])[0]  # [texts]
        words = self._words.shares(grams)
        which = self._near(words, similar)
        values = np.zeros((len(similar) + 1, 1 + 2 * _FIT), np.float32)  # of the texts, and of none
        values[:-1, 0] = similar
        self._fit(values[:-1, 1 : 1 + _FIT], self._plain, query.codes, which)
        self._fit(values[:-1, 1 + _FIT :], self._sound, query.sounds, which)
        # Written in place: parts that are made one by one and joined cost more than all that is reckoned here.
        size = len(_BASE)
        found = np.zeros((len(self.keys), 3 * size), np.float32)
        base, groups = found[:, size : 2 * size], self._groups
        base[:, 0], base[:, 1] = words, self._words_of_names.shares(grams)
        best = values[groups.first]
        base[:, 3], base[:, 5 : 5 + _FIT] = best[:, 0], best[:, 1 : 1 + _FIT]
        if len(groups.several):
            best[groups.several] = np.maximum.reduceat(values[groups.names], groups.names_begin, axis=0)
        base[:, 2], base[:, 5 + _FIT : 5 + 3 * _FIT] = best[:, 0], best[:, 1:]
        with_examples = groups.with_examples
        if len(with_examples):
            best = np.maximum.reduceat(values[groups.examples], groups.examples_begin, axis=0)
            base[with_examples, 4], base[with_examples, 5 + 3 * _FIT :] = best[:, 0], best[:, 1:]
            found[with_examples, :size] = base[with_examples]
            base[with_examples] = 0
        np.multiply(base, np.float32(query.shortness), out=found[:, 2 * size :])
        return found

    def _near(self, words: F32, similar: F32) -> I32 | None:
        """Texts whose fit is looked at: None = all; of a large index those of the entries that words or vectors bring near."""
        if len(similar) <= _LOOKED_AT:
            return None
        owner = np.repeat(np.arange(len(self.keys)), np.diff(self._bounds[::2]))
        near = np.zeros(len(self.keys), bool)
        near[np.argpartition(-words, min(_NEAR, len(words) - 1))[:_NEAR]] = True
        near[owner[np.argpartition(-similar, _NEAR)[:_NEAR]]] = True
        return np.flatnonzero(near[owner]).astype(np.int32)

    def _fit(self, into: F32, names: Names, codes: I32, which: I32 | None) -> None:
        """into [texts, _FIT]: `Names.features` and their sum; texts that are not looked at stay as they are."""
        found = names.features(codes, which)
        rows: Any = slice(None) if which is None else which
        into[rows, :-1] = found
        into[rows, -1] = found.sum(axis=1)

    # ------------------------------------------------------------------------------------------------------------ keeping

    def save(self, folder: Path) -> None:
        """A new folder; whatever is there is replaced."""
        from safetensors.numpy import save_file

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        arrays: dict[str, NDArray[Any]] = {
            "bounds": self._bounds, "characters.plain": self.characters.plain, "characters.sound": self.characters.sound,
            **self._plain.arrays("plain"), **self._sound.arrays("sound"),
            **self._words.arrays("words"), **self._words_of_names.arrays("names"),
        }  # fmt: skip
        save_file(arrays, folder / "arrays.safetensors")
        self._vectors.save(folder)
        words = {"words": self._words.listed(), "names": self._words_of_names.listed()}
        head = {"format": _FORMAT, "keys": self.keys, **words}
        (folder / "index.json").write_text(json.dumps(head, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> Index:
        """ValueError when it is of another version; OSError."""
        from safetensors.numpy import load_file

        head = json.loads((folder / "index.json").read_text("utf-8"))
        if head.get("format") != _FORMAT:
            raise ValueError(f"{folder}: an index of format {head.get('format')}, this version reads {_FORMAT}: make it again")
        arrays = load_file(folder / "arrays.safetensors")
        keys = head["keys"]
        words, names = (Words.read(arrays, part, head[part], max(1, len(keys))) for part in ("words", "names"))
        return cls(
            keys, arrays["bounds"], Characters(arrays["characters.plain"], arrays["characters.sound"]),
            Names.read(arrays, "plain"), Names.read(arrays, "sound"), open_vectors(folder),
            words, names,
        )  # fmt: skip


def _grams(characters: Characters, text: str) -> list[str]:
    """Characters and pairs of them, within what no punctuation parts."""
    found: list[str] = []
    for piece in normalised(characters.codes(text)).split():
        found += piece
        found += [piece[i : i + 2] for i in range(len(piece) - 1)]
    return found
