"""One encoder pass, three questions: which item, which act, and is it the hall's business at all?

All three are answered by the sentences and names that lie nearest, so a new catalogue is understood as soon as it is indexed, and a
sentence that is added to an item works at once. What "near" means was fitted once (`fitting.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from govlm.hall.answers.asked import asked
from govlm.hall.catalogue.records import Item
from govlm.hall.retrieval.characters import Characters
from govlm.hall.retrieval.index import FEATURE_NAMES, Encode, Entry, Index, Query, shortened
from govlm.hall.retrieval.ranking import Ranker
from govlm.hall.understanding.examples import ACTS, FOLDER, OUT_OF_SCOPE, without_numbers
from govlm.hall.understanding.plain_words import is_greeting
from govlm.hall.understanding.slots import Slot, find_slots

__all__ = ["SCOPE_FEATURES", "Reading", "Understander", "Understanding", "Weights", "asks", "item_entry", "scope_features"]

F32 = NDArray[np.float32]
_BASE = len(FEATURE_NAMES) // 3
SCOPE_FEATURES = (
    "1", "score", "chance", "short query", "asks for a part", "asks for a part of it",
    *(f"item: {name}" for name in FEATURE_NAMES), *(f"out of scope: {name}" for name in FEATURE_NAMES[:_BASE]),
)  # fmt: skip


@dataclass(frozen=True)
class Understanding:
    """business_type and item (a code): the likeliest, "" where the hall has none. act: one of examples.ACTS. in_scope: whether the
    hall can answer at all. confidence: the chance that business_type is right, given that it is.
    """

    business_type: str
    item: str
    act: str
    slots: tuple[Slot, ...]
    in_scope: bool
    confidence: float


@dataclass(frozen=True)
class Weights:
    """What was fitted: how near an item, a passage, an act, and everything else is; threshold: a score above it is out of scope."""

    items: Ranker
    passages: Ranker
    acts: Ranker
    scope: Ranker
    threshold: float

    @classmethod
    @cache
    def load(cls, folder: Path = FOLDER) -> Weights:
        """ValueError when they are of another version of the features."""
        threshold = json.loads((folder / "threshold.json").read_text("utf-8"))["out_of_scope"]
        items, passages, acts = (Ranker.load(folder / f"{name}.json", FEATURE_NAMES) for name in ("items", "passages", "acts"))
        return cls(items, passages, acts, Ranker.load(folder / "scope.json", SCOPE_FEATURES), threshold)

    def save(self, folder: Path) -> None:
        for name in ("items", "passages", "acts", "scope"):
            getattr(self, name).save(folder / f"{name}.json")
        (folder / "threshold.json").write_text(json.dumps({"out_of_scope": round(self.threshold, 4)}) + "\n", encoding="utf-8")


def item_entry(item: Item, examples: Sequence[str] | None = None) -> Entry:
    """How an item is found: by its names, by sentences in which people ask for it, and by what its guide says."""
    said = [item.authority, item.business, *item.themes, *item.conditions, *(m.name for m in item.materials), item.result]
    return Entry(item.code, (item.name, *item.aliases), tuple(item.wordings if examples is None else examples), " ".join(said))


def asks(text: str) -> float:
    """1 where the words ask for a part of a guide (materials, fee, …), whatever it is of; else 0."""
    return float(bool(asked(text).kinds))


def scope_features(shortness: float, asking: float, features: F32, scores: F32, outside: F32) -> F32:
    """[len(SCOPE_FEATURES)] from `asks`, the features and scores of the items, and the features of the out-of-scope entry."""
    if not len(scores):
        head = [1, 0, 0, shortness, asking, 0]
        return np.concatenate([head, np.zeros(len(FEATURE_NAMES)), outside[:_BASE]]).astype(np.float32)
    best = int(scores.argmax())
    chance = _softmax(scores)[best]
    head = [1, scores[best] / 10, chance, shortness, asking, asking * chance]
    return np.concatenate([head, features[best], outside[:_BASE]]).astype(np.float32)


class Understander:
    """items: an index of `item_entry`s in the order of `businesses`, with `out_of_scope_entry` last. acts: of `act_entries`."""

    def __init__(
        self, items: Index, acts: Index, businesses: Sequence[str], encode: Encode, weights: Weights | None = None
    ) -> None:
        if len(items) != len(businesses) + 1 or items.keys[-1] != OUT_OF_SCOPE or tuple(acts.keys) != ACTS:
            raise ValueError("the indexes are not those that understanding is made of: make them again")
        self._items, self._acts, self._encode = items, acts, encode
        self.weights = weights or Weights.load()
        self._businesses = sorted(set(businesses))
        self._business = np.array([self._businesses.index(name) for name in businesses], np.int64)

    @property
    def codes(self) -> list[str]:
        """Of the items, in the order of their scores; then that of what is out of scope."""
        return self._items.keys

    @property
    def characters(self) -> Characters:
        """The tables of the index."""
        return self._items.characters

    def read(self, text: str) -> Reading:
        """The text, to be asked what is wanted of it."""
        return Reading(self, text)

    def query(self, text: str) -> Query:
        """The text made ready to be asked; halves of characters (lone surrogates) count as signs."""
        return self._items.query(without_numbers(text.encode("utf-8", "replace").decode("utf-8")), self._encode)

    def readable(self, text: str) -> str:
        """What of a text goes to the encoder."""
        return shortened(without_numbers(text.encode("utf-8", "replace").decode("utf-8")))

    def businesses(self, text: str, vector: F32) -> dict[str, float]:
        """Business type -> the chance that a text is of it. text: as `readable` gives it; vector: what the encoder makes of that. Empty
        for a text that says nothing, and where the hall has no items."""
        query = self._items.made(text, vector)
        scores, _ = self.item_scores(query)
        if not len(scores) or not np.count_nonzero(query.codes):
            return {}
        chances = np.bincount(self._business, _softmax(scores), len(self._businesses))
        return {name: float(chance) for name, chance in zip(self._businesses, chances, strict=True)}

    def item_scores(self, query: Query) -> tuple[F32, F32]:
        """(scores [items], features [items + 1, …]): the last row is the out-of-scope entry's."""
        features = self._items.features(query)
        return self.weights.items.scores(features[:-1]), features

    def act(self, query: Query) -> str:
        """What the person does with the sentence."""
        return ACTS[int(self.weights.acts.scores(self._acts.features(query)).argmax())]

    def outside(self, query: Query, scores: F32, features: F32) -> float:
        """How surely the hall cannot answer: above `weights.threshold` it says so."""
        row = scope_features(query.shortness, asks(query.text), features[:-1], scores, features[-1])
        return float(self.weights.scope.scores(row[None])[0])

    def understand(self, text: str, query: Query | None = None, today: date | None = None) -> Understanding:
        """Everything about a sentence. One that is empty, or only a greeting, is small talk outside the hall's business."""
        query = query or self.query(text)
        slots = tuple(find_slots(text, today))
        if not np.count_nonzero(query.codes) or is_greeting(text):
            return Understanding("", "", "smalltalk", slots, False, 0.0)
        scores, features = self.item_scores(query)
        in_scope = self.outside(query, scores, features) <= self.weights.threshold
        if not len(scores):
            return Understanding("", "", self.act(query), slots, in_scope, 0.0)
        chances = np.bincount(self._business, _softmax(scores), len(self._businesses))
        best = int(chances.argmax())
        inside = np.where(self._business == best, scores, -np.inf)
        item = self._items.keys[int(inside.argmax())]
        return Understanding(self._businesses[best], item, self.act(query), slots, in_scope, float(chances[best]))


class Reading:
    """A text as an understander takes it: each part is worked out when it is first asked for, and kept."""

    def __init__(self, understander: Understander, text: str) -> None:
        self._understander, self.text = understander, text

    @cached_property
    def query(self) -> Query:
        return self._understander.query(self.text)

    @cached_property
    def empty(self) -> bool:
        """Whether there is no letter or digit in it, or nothing but a greeting."""
        return is_greeting(self.text) or not np.count_nonzero(self.query.codes)

    @cached_property
    def _scored(self) -> tuple[F32, F32]:
        return self._understander.item_scores(self.query)

    @property
    def scores(self) -> F32:
        """[items]"""
        return self._scored[0]

    @cached_property
    def outside(self) -> bool:
        """Whether the hall cannot answer."""
        return self._understander.outside(self.query, *self._scored) > self._understander.weights.threshold

    @cached_property
    def act(self) -> str:
        """One of examples.ACTS."""
        return self._understander.act(self.query)


def _softmax(scores: F32) -> F32:
    powers = np.exp(scores - scores.max())
    found: F32 = powers / powers.sum()
    return found
