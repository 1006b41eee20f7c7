"""Fits what "near" means (`understand.Weights`), and measures it on sentences that the indexes do not hold.

items       requests for the sample hall, with its sentences in the index, with those of half the items, and each sentence of the
            hall while it is out; colloquial names of a real catalogue while the items that bear them are indexed without any
acts        each sentence while it is out
scope       the same requests and names against sentences that no hall answers, each while it is out
passages    questions of policy, and the passages of the document that answers them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.data import permutation
from govlm.hall.catalogue.records import Item
from govlm.hall.retrieval.characters import Characters
from govlm.hall.retrieval.index import FEATURE_NAMES, Encode, Entry, Index
from govlm.hall.retrieval.ranking import Ranker, fit
from govlm.hall.understanding.examples import ACTS, act_entries, out_of_scope_entry, questions, without_numbers
from govlm.hall.understanding.understand import SCOPE_FEATURES, Weights, asks, item_entry, scope_features

__all__ = ["FALSE_ALARMS", "alias_cases", "fit_weights", "passage_cases", "request_cases"]

FALSE_ALARMS = 0.05  # share of what a hall can answer that may be called out of scope
_FOLDS = 6
_ROUNDS = 20  # of the ways to ask, each time about another item
_KEPT = 150  # entries of a query that are taught: those that come near, and the right ones

F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
Taught = tuple[F32, Mask]  # features of entries, and which are right


class Case(NamedTuple):
    """A query with its answer. features: of the items and, last, of the out-of-scope entry; right: the right items, none = no hall
    answers it."""

    shortness: float
    asking: float
    features: F32
    right: Mask


Tell = Callable[[str], None]


def cached(encode: Encode) -> Encode:
    """Sentence vectors of texts, each computed once."""
    known: dict[str, F32] = {}

    def encoded(texts: Sequence[str]) -> F32:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        for text, vector in zip(new, encode(new) if new else [], strict=True):
            known[text] = vector
        return np.stack([known[text] for text in texts])

    return encoded


def _folds(count: int, seed: int) -> Iterator[list[int]]:
    order = permutation(count, seed, 0)
    for fold in range(_FOLDS):
        yield order[fold::_FOLDS].tolist()


def _ask(index: Index, encode: Encode, texts: Iterable[str]) -> Iterator[tuple[float, float, F32]]:
    for text in texts:
        query = index.query(without_numbers(text), encode)
        yield query.shortness, asks(query.text), index.features(query)


def request_cases(
    items: Sequence[Item], requests: Sequence[tuple[str, str]], outside: Sequence[str], encode: Encode, characters: Characters
) -> tuple[list[Case], list[Case]]:
    """(cases that teach items, cases that teach scope). requests: (text, code) that are no wording of an item."""
    numbers = {item.code: i for i, item in enumerate(items)}
    none = np.zeros(len(items), bool)

    def right(code: str) -> Mask:
        return np.arange(len(items)) == numbers[code]

    def index_of(without: frozenset[str], bare: frozenset[str] = frozenset()) -> Index:
        entries = [
            item_entry(item, () if item.code in bare else [text for text in item.wordings if text not in without])
            for item in items
        ]
        return Index.make([*entries, out_of_scope_entry(without)], encode, characters)

    taught: list[Case] = []
    scope: list[Case] = []
    texts, codes = [text for text, _ in requests], [code for _, code in requests]
    for part, bare in enumerate((frozenset(), frozenset(item.code for item in items[::2]), frozenset(numbers))):
        for asked, code in zip(_ask(index_of(frozenset(), bare), encode, texts), codes, strict=True):
            taught.append(Case(*asked, right(code)))
            if part == 0:
                scope.append(taught[-1])
    called = [(name, item.code) for item in items for name in (item.name, *item.aliases)]
    put = [
        (form.format(*called[i % len(called)][:1]), called[i % len(called)][1]) for i, form in enumerate(questions() * _ROUNDS)
    ]
    for asked, (_, code) in zip(_ask(index_of(frozenset()), encode, [text for text, _ in put]), put, strict=True):
        taught.append(Case(*asked, right(code)))
        scope.append(taught[-1])
    wordings = [(text, item.code) for item in items for text in item.wordings]
    for inside, out in zip(_folds(len(wordings), 21), _folds(len(outside), 22), strict=True):
        said, not_said = [wordings[i] for i in inside], [outside[i] for i in out]
        index = index_of(frozenset(text for text, _ in said) | frozenset(not_said))
        for asked, (_, code) in zip(_ask(index, encode, [text for text, _ in said]), said, strict=True):
            taught.append(Case(*asked, right(code)))
            scope.append(taught[-1])
        scope += [Case(*asked, none) for asked in _ask(index, encode, not_said)]
    return taught, scope


def alias_cases(
    items: Sequence[Item], aliases: Mapping[str, Sequence[str]], asked: Sequence[str], encode: Encode, characters: Characters
) -> list[Case]:
    """aliases: colloquial name -> codes of the items that bear it. asked: those to ask for. While one is asked for, the items that
    bear it, and those of their names, are indexed without any; they are the right ones. In the order of `asked`."""
    same: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        same.setdefault(item.name, []).append(i)
    numbers = {item.code: i for i, item in enumerate(items)}
    cases: dict[str, Case] = {}
    for fold in _folds(len(asked), 23):
        right = {asked[i]: {j for code in aliases[asked[i]] for j in same[items[numbers[code]].name]} for i in fold}
        bare = set().union(*right.values())
        shown = [
            replace(item, aliases=tuple(alias for alias in item.aliases if alias not in aliases)) if i in bare else item
            for i, item in enumerate(items)
        ]
        index = Index.make([*(item_entry(item) for item in shown), out_of_scope_entry()], encode, characters)
        for found, name in zip(_ask(index, encode, right), right, strict=True):
            cases[name] = Case(*found, np.isin(np.arange(len(items)), list(right[name])))
    return [cases[name] for name in asked]


def passage_cases(
    entries: Sequence[Entry], questions: Sequence[tuple[str, Mask]], encode: Encode, characters: Characters
) -> list[Taught]:
    """questions: (text, which entries are of a document that answers it)."""
    index = Index.make(entries, encode, characters)
    cases = []
    for (_, _, features), (_, right) in zip(_ask(index, encode, [text for text, _ in questions]), questions, strict=True):
        cases.append(_near(features, right))
    return cases


def act_cases(encode: Encode, characters: Characters) -> list[Taught]:
    sentences = [(text, entry.key) for entry in act_entries() for text in entry.examples]
    cases: list[Taught] = []
    for fold in _folds(len(sentences), 24):
        out = [sentences[i] for i in fold]
        index = Index.make(act_entries(frozenset(text for text, _ in out)), encode, characters)
        for (_, _, features), (_, act) in zip(_ask(index, encode, [text for text, _ in out]), out, strict=True):
            cases.append((features, np.array([act == name for name in ACTS])))
    return cases


def _near(features: F32, right: Mask) -> Taught:
    """The entries that come near by an unweighted sum, and the right ones."""
    if len(features) <= _KEPT:
        return features, right
    kept = np.union1d(np.argsort(-features.sum(axis=1), kind="stable")[:_KEPT], np.flatnonzero(right))
    return features[kept], right[kept]


def fit_weights(taught: Sequence[Case], scope: Sequence[Case], passages: Sequence[Taught], acts: Sequence[Taught]) -> Weights:
    """taught: for the items (request_cases, alias_cases). scope: with cases where nothing is right."""
    items = fit(FEATURE_NAMES, [_near(case.features[:-1], case.right) for case in taught])
    rows = [_scope_row(items, case) for case in scope]
    outside = np.array([not case.right.any() for case in scope])
    zero = np.zeros(len(SCOPE_FEATURES), np.float32)
    # softmax over (this row, nothing): the weights of a logistic regression
    pairs = [(np.stack([row, zero]), np.array([out, not out])) for row, out in zip(rows, outside, strict=True)]
    ranker = fit(SCOPE_FEATURES, pairs, decay=3e-3)
    threshold = float(np.quantile(ranker.scores(np.stack(rows)[~outside]), 1 - FALSE_ALARMS))
    return Weights(
        items,
        fit(FEATURE_NAMES, passages),
        fit(FEATURE_NAMES, acts),
        ranker,
        threshold,
    )


def _scope_row(items: Ranker, case: Case) -> F32:
    inside, outside = case.features[:-1], case.features[-1]
    return scope_features(case.shortness, case.asking, inside, items.scores(inside), outside)
