"""Extractive summaries: whole sentences of the text, verbatim and in its order, never above a length.

Each sentence has a salience (a linear model, `fitting.py`); sentences are taken one by one, the best first, each held against
those that are there already (maximal marginal relevance, Carbonell and Goldstein 1998), as long as they fit. Title, 文号, addressees,
signature and date are no sentences of it.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from govlm.hall.answers.citations import Citation, cite_span, version
from govlm.hall.answers.citations import Sentence as Cited
from govlm.hall.catalogue.records import Document
from govlm.hall.policy.formalities import formalities
from govlm.hall.policy.salience import FEATURE_NAMES, Vectors, features
from govlm.hall.policy.source import OneDocument, Sentence, clause_prefix, list_from, opens_list, sentences, source
from govlm.hall.retrieval.ranking import Ranker

if TYPE_CHECKING:
    from govlm.hall.generator.phrasing import Phraser

__all__ = ["LENGTH", "Summary", "load", "pick", "summarise"]

LENGTH = 200  # characters of a summary
_WEIGHTS = Path(__file__).resolve().parents[2] / "assets" / "policy" / "salience.json"
_REPEATS = 0.75  # of the cosine with a sentence that is there, taken off
_SAME = 0.8  # cosine from which on a sentence says nothing new
_LEAST = 6  # characters worth taking

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """sentences: verbatim spans of the source, in its order. text: those, a line each. citations: the same spans, for a Document
    with passages; () for a bare text. plain: the same in a generator's words, checked, where there is one; the sentences that it did
    not put right are among them as they stand. () = none."""

    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...] = ()
    plain: tuple[Cited, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join(sentence.text for sentence in self.sentences)


@functools.cache
def load() -> Ranker:
    """The weights that come with the package."""
    return Ranker.load(_WEIGHTS, FEATURE_NAMES)


def summarise(
    document: Document | str, length: int = LENGTH, weights: Ranker | None = None, phraser: Phraser | None = None
) -> Summary:
    """The sentences that say most, at most `length` characters with the line ends between them. phraser: puts them into plain words,
    too, where the document has passages.

    Only where no whole sentence fits, the best one is cut at the end of a clause (its `whole` is False). An empty text gives no
    sentences. ValueError for a length below 1, TypeError for what is neither a text nor a Document.
    """
    if length < 1:
        raise ValueError(f"length must be 1 or more, not {length}")
    of = source(document)
    units = sentences(of)
    if not units:
        return Summary(())
    rows, alike = features(units, of.title, len(of.text))
    scores = (weights or load()).scores(rows.astype(np.float32)).astype(np.float64)
    chosen = pick(units, scores, alike, length, _lists(of.text, units), formalities(of.text, of.title, units))
    found = tuple(sorted(chosen, key=lambda sentence: sentence.start))
    if not of.passages:
        return Summary(found)
    now = version(of)
    citations = tuple(cite_span(of, unit.passage, unit.start, unit.end, now) for unit in found)
    plain = () if phraser is None else phraser.plain([Cited((citation,)) for citation in citations], OneDocument(of))
    return Summary(found, citations, plain)


def _lists(text: str, units: Sequence[Sentence]) -> dict[int, int]:
    """first sentence -> the one after the last of its list. One that opens a list which is not there: itself."""
    return {at: list_from(text, units, at) for at, unit in enumerate(units) if opens_list(unit)}


def pick(
    units: Sequence[Sentence],
    scores: F64,
    alike: Vectors | None,
    length: int,
    lists: Mapping[int, int] | None = None,
    never: Collection[int] = (),
) -> list[Sentence]:
    """Sentences, best first, that fit into `length`. alike: None = whatever repeats may repeat. lists: the sentence that opens one is
    taken with all of its items or not at all, since some of the conditions would be read as all of them. never: sentences that are not taken.
    """
    sizes = np.array([len(unit.text) for unit in units])
    near = np.zeros(len(units))
    free = (sizes >= _LEAST) if (sizes >= _LEAST).any() else np.ones(len(units), np.bool_)
    free[list(never)] = False
    scores = scores.copy()
    for at, end in (lists or {}).items():
        if end == at + 1:
            free[at] = False
            continue
        scores[at] = np.average(scores[at:end], weights=sizes[at:end])
        sizes[at] = sizes[at:end].sum() + end - at - 1
    left = length
    chosen: list[Sentence] = []
    while True:
        fits = free & (sizes <= left)
        if not fits.any():
            break
        at = int(np.where(fits, scores - _REPEATS * near, -np.inf).argmax())
        free[at] = False
        if near[at] > _SAME:
            continue
        members = range(at, (lists or {}).get(at, at + 1))
        if any(unit in chosen for unit in units[members.start + 1 : members.stop]):
            continue  # some of its items are there already
        chosen += units[members.start : members.stop]
        free[members.start : members.stop] = False
        left -= int(sizes[at]) + 1
        if alike is not None:
            for member in members:
                near = np.maximum(near, alike.similarity(member))
    if chosen:
        return chosen
    for at in np.argsort(-scores, kind="stable").tolist():
        cut = clause_prefix(units[at], length) if at not in never else None
        if cut is not None:
            return [cut]
    return []
