"""Fitting the tagger: maximum likelihood of a linear-chain CRF, Adagrad, features dropped at random, then pruned to a size.

The sentences are CLUENER's (Xu et al. 2020, arXiv:2001.04351; every HELD_OUT-th row is left for measuring), real addresses in
made sentences, and `tagger_examples`. The same data gives the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from govlm.hall.addresses import Divisions
from govlm.hall.understanding.examples import read_rows
from govlm.hall.understanding.slots import recognised, ruled_names, ruled_organisations, tagger_hints
from govlm.hall.understanding.tagger import LABELS, Tagger, allowed, features
from govlm.hall.understanding.tagger_examples import Example, make_examples, renamed

__all__ = ["HELD_OUT", "cluener_rows", "fit", "hints", "parsed_addresses", "training_rows"]

HELD_OUT = 10
SEED = 20
TODAY = date(2026, 1, 1)  # what dates are counted from while features are made
_KINDS = {
    "name": "name",
    "address": "address",
    "company": "organisation",
    "government": "organisation",
    "organization": "organisation",
}
Floats = NDArray[np.float32]


# -------------------------------------------------------------------------------------------------------- data


def cluener_rows(path: Path) -> list[Example]:
    """Rows of a file of JSON objects, one after another; its companies, governments and organizations are organisations."""
    text, decoder, pos, rows = path.read_text("utf-8"), json.JSONDecoder(), 0, []
    while (pos := next((i for i in range(pos, len(text)) if not text[i].isspace()), len(text))) < len(text):
        row, pos = decoder.raw_decode(text, pos)
        marks = {
            (_KINDS[kind], start, end + 1)
            for kind, each in row["label"].items() if kind in _KINDS
            for places in each.values() for start, end in places
        }  # fmt: skip
        rows.append((row["text"], sorted(marks, key=lambda mark: (mark[1], -mark[2]))))
    return rows


def parsed_addresses(path: Path) -> list[str]:
    """The addresses of a file of tagged pieces, one a line, a blank line after each address."""
    blocks = path.read_text("utf-8").split("\n\n")
    return ["".join(line.split(" ")[0] for line in block.splitlines()) for block in blocks if block.strip()]


def training_rows(data: Path, made: int = 10_000) -> list[Example]:
    """Of the folder of data: CLUENER without what is held out, and `made` sentences with real and made addresses."""
    addresses = parsed_addresses(data / "ner/address_parsing/train.txt")
    folder = data / "gazetteer/divisions"
    divisions = Divisions.read(folder) if folder.exists() else Divisions.bundled()
    places = [division.name for division in divisions._of("district", "") + divisions._of("city", "")]
    rows = [row for i, row in enumerate(cluener_rows(data / "ner/cluener/train.json")) if i % HELD_OUT]
    return [*rows, *renamed(rows, SEED), *make_examples(made, SEED, places, addresses), *_without_names()]


def hints(text: str) -> list[tuple[str, int, int]]:
    """What the tagger is told beside the text where it serves."""
    return tagger_hints(text, recognised(text, TODAY))


def _without_names() -> Iterator[Example]:
    """The hall's own example sentences in which rules see no person and no organisation."""
    for name in ("requests.jsonl", "acts.jsonl", "out_of_scope.jsonl"):
        for row in read_rows(name):
            text = row["text"]
            if not [*ruled_names(text), *ruled_organisations(text)]:
                yield text, [("address", s.start, s.end) for s in recognised(text, TODAY) if s.kind == "address"]


def _labels(text: str, marks: Sequence[tuple[str, int, int]]) -> NDArray[np.int8]:
    labels = np.zeros(len(text), np.int8)
    for kind, start, end in marks:
        if end - start >= 2 and not labels[start:end].any():
            labels[start:end] = LABELS.index("I-" + kind)
            labels[start], labels[end - 1] = LABELS.index("B-" + kind), LABELS.index("E-" + kind)
    return labels


# ----------------------------------------------------------------------------------------------------- fitting


class _Batches:
    """Sentences as feature rows, in batches of like length."""

    def __init__(self, hashed: list[NDArray[np.uint32]], labels: list[NDArray[np.int8]], keys: NDArray[np.uint32]) -> None:
        self.labels, self.lengths = labels, np.array([len(each) for each in labels])
        self.rows = []
        for each in hashed:
            place = np.minimum(np.searchsorted(keys, each), len(keys) - 1)
            self.rows.append(np.where(keys[place] == each, place, len(keys)).astype(np.int32))

    def epoch(self, random: np.random.Generator, size: int) -> Iterator[NDArray[np.int64]]:
        order = random.permutation(len(self.labels))
        order = order[np.argsort(self.lengths[order] + random.integers(0, 8, len(order)), kind="stable")]
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        for i in random.permutation(len(batches)):
            yield batches[i]


def fit(
    rows: Sequence[Example],
    hints: Callable[[str], list[tuple[str, int, int]]],
    *,
    kept: int = 64_000,
    epochs: int = 5,
    after: int = 4,
    rate: float = 0.15,
    dropped: float = 0.3,
    decay: float = 1e-6,
    least: int = 3,
    said: Callable[[str], None] | None = None,
) -> Tagger:
    """`epochs` with all features that occur `least` times, `after` with the `kept` heaviest."""
    hashed = [features(text, hints(text)) for text, _ in rows]
    labels = [_labels(text, marks) for text, marks in rows]
    keys, counts = np.unique(np.concatenate([each.ravel() for each in hashed]), return_counts=True)
    keys = keys[counts >= least]
    random = np.random.Generator(np.random.PCG64(SEED))
    weights = np.zeros((len(keys) + 1, len(LABELS)), np.float32)
    transitions = np.zeros((len(LABELS), len(LABELS)), np.float32)
    for count in (epochs, after):
        batches = _Batches(hashed, labels, keys)
        squares, squares_t = np.full_like(weights, 1e-3), np.full_like(transitions, 1e-3)
        total, total_t, taken = np.zeros_like(weights), np.zeros_like(transitions), 0
        for epoch in range(count):
            loss = 0.0
            for batch in batches.epoch(random, 48):
                loss += _step(batches, batch, weights, transitions, squares, squares_t, random, rate, dropped, decay)
            if epoch >= count // 2:  # the mean of the later epochs
                total, total_t, taken = total + weights, total_t + transitions, taken + 1
            if said:
                said(f"{len(keys)} features, epoch {epoch + 1}: loss {loss / len(rows):.3f}")
        weights, transitions = total / np.float32(taken), total_t / np.float32(taken)
        if len(keys) > kept:
            heavy = np.abs(weights[:-1] - weights[:-1].mean(axis=1, keepdims=True)).max(axis=1)
            best = np.sort(np.argsort(-heavy, kind="stable")[:kept])
            keys, weights = keys[best], np.concatenate([weights[best], np.zeros((1, len(LABELS)), np.float32)])
    return Tagger(keys, weights, np.where(allowed(), transitions, -np.inf).astype(np.float32))


def _step(
    batches: _Batches, batch: NDArray[np.int64], weights: Floats, transitions: Floats, squares: Floats, squares_t: Floats,
    random: np.random.Generator, rate: float, dropped: float, decay: float,
) -> float:  # fmt: skip
    """One step of Adagrad on the batch's likelihood, in place; the loss."""
    lengths = batches.lengths[batch]
    size, longest = len(batch), int(lengths.max())
    there = np.arange(longest)[None, :] < lengths[:, None]  # [size, longest]
    rows = np.concatenate([batches.rows[i] for i in batch])
    rows = np.where(random.random(rows.shape, np.float32) < dropped, len(weights) - 1, rows)
    gold = np.zeros((size, longest), np.int64)
    gold[there] = np.concatenate([batches.labels[i] for i in batch])
    emissions = np.zeros((size, longest, len(LABELS)), np.float32)
    emissions[there] = weights[rows].sum(axis=1) / np.float32(1 - dropped)
    loss, chance, pairs = _marginals(emissions, np.where(allowed(), transitions, -np.inf).astype(np.float32), there, gold)
    error = chance[there]
    error[np.arange(len(error)), gold[there]] -= 1
    error /= size
    order = np.argsort(rows, axis=None, kind="stable")
    sorted_rows = rows.ravel()[order]
    first = np.flatnonzero(np.r_[True, sorted_rows[1:] != sorted_rows[:-1]])
    gradient = np.add.reduceat(error[order // rows.shape[1]], first, axis=0)
    touched = sorted_rows[first]
    if touched[-1] == len(weights) - 1:
        gradient, touched = gradient[:-1], touched[:-1]
    gradient += decay * weights[touched]
    squares[touched] += gradient**2
    weights[touched] -= rate * gradient / np.sqrt(squares[touched])
    pairs /= size
    squares_t += pairs**2
    transitions -= rate * pairs / np.sqrt(squares_t)
    return loss


def _marginals(
    emissions: Floats, transitions: Floats, there: NDArray[np.bool_], gold: NDArray[np.int64]
) -> tuple[float, Floats, Floats]:
    """(minus log likelihood, [size, longest, LABELS] chances, [LABELS, LABELS] expected less true pairs), by forward-backward."""
    size, longest, count = emissions.shape
    top = emissions.max(axis=2, keepdims=True)
    local = np.exp(emissions - top)
    step = np.exp(transitions)
    begin = np.array([label[0] in "OB" for label in LABELS], np.float32)
    stop = np.array([label[0] in "OE" for label in LABELS], np.float32)
    forward, backward = np.zeros_like(local), np.zeros_like(local)
    scale = np.ones((size, longest), np.float32)
    for t in range(longest):
        value = local[:, t] * (begin if t == 0 else forward[:, t - 1] @ step)
        scale[:, t] = value.sum(axis=1)
        forward[:, t] = value / scale[:, t, None]
        if t:
            forward[:, t] = np.where(there[:, t, None], forward[:, t], forward[:, t - 1])
    final = (forward[:, -1] * stop).sum(axis=1)
    pairs = np.zeros((count, count), np.float32)
    backward[:, -1] = stop / final[:, None]
    for t in range(longest - 2, -1, -1):
        ahead = local[:, t + 1] * backward[:, t + 1] / scale[:, t + 1, None]
        inside = there[:, t + 1, None]
        pairs += step * ((forward[:, t] * inside).T @ ahead)
        backward[:, t] = np.where(inside, ahead @ step.T, backward[:, t + 1])
    chance = forward * backward
    both = there[:, 1:] & there[:, :-1]
    np.add.at(pairs, (gold[:, :-1][both], gold[:, 1:][both]), -1)
    score = np.take_along_axis(emissions, gold[..., None], 2)[..., 0][there].sum(dtype=np.float64)
    score += transitions[gold[:, :-1][both], gold[:, 1:][both]].sum(dtype=np.float64)
    likelihood = (
        np.log(np.where(there, scale, 1)).sum(dtype=np.float64) + top[..., 0][there].sum(dtype=np.float64) + np.log(final).sum()
    )
    return float(likelihood - score), chance, pairs
