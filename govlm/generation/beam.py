"""Beam search with transformers' scores and stopping rules: the same texts, each prompt for itself.

A hypothesis has the sum of its tokens' log-probabilities; one that ends counts with that sum over its length to the power of
length_penalty. The beams of all prompts go through the model in one step; their keys and values are shared up to where they part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._native import core as native
from ..adapters.mixin import arguments_of
from .processors import Processor, log_softmax
from .scheduler import NonFiniteLogits

__all__ = ["BeamResult", "Beams", "beam_search"]

F32 = NDArray[np.float32]
_OUT = np.float32(-1e9)


@dataclass
class Hypothesis:
    """score: of a running one the sum, of one that ended the mean; parents: the beam that each generated token continued."""

    score: np.float32
    tokens: list[int]
    parents: list[int]
    ended: bool = False


@dataclass
class BeamResult:
    """The best hypotheses of one prompt, best first, and the processed and raw logits [beams, V] of its steps, where wanted."""

    best: list[Hypothesis]
    scores: list[F32]
    logits: list[F32]


class Beams:
    """The search for one prompt, without the model: advance() takes log-probabilities and says which beam continues which."""

    def __init__(
        self,
        num_beams: int,
        max_new_tokens: int,
        eos: Sequence[int],
        length_penalty: float = 1.0,
        early_stopping: bool | str = False,
        stops: Callable[[list[int], F32], bool] | None = None,
    ) -> None:
        self.running = [Hypothesis(np.float32(0) if i == 0 else _OUT, [], []) for i in range(num_beams)]
        self.finished = [Hypothesis(_OUT, [], []) for _ in range(num_beams)]
        self._beams, self._most, self._eos, self._stops = num_beams, max_new_tokens, frozenset(eos), stops
        self._penalty, self._early = length_penalty, early_stopping
        self._open = True  # whether a running beam may still become better than a finished one
        self._wide = max(2, 1 + len(self._eos)) * num_beams

    def advance(self, log_probs: F32) -> bool:
        """One token more for every beam, from processed log-probabilities [beams, V]. False when the search is over."""
        vocabulary = log_probs.shape[1]
        sums = (log_probs + np.array([h.score for h in self.running], np.float32)[:, None]).reshape(-1)
        order = _largest(sums, min(self._wide, len(sums)))
        candidates = []
        for place in order.tolist():
            beam, token = divmod(place, vocabulary)
            parent = self.running[beam]
            candidates.append(Hypothesis(sums[place], [*parent.tokens, token], [*parent.parents, beam]))
        length = len(candidates[0].tokens)
        hits = np.array([
            h.tokens[-1] in self._eos or length >= self._most
            or (self._stops is not None and self._stops(h.tokens, log_probs[h.parents[-1]]))
            for h in candidates
        ])  # fmt: skip
        self._finish(candidates, hits, length)
        still = np.array([h.score for h in candidates], np.float32) + hits.astype(np.float32) * _OUT
        self.running = [Hypothesis(still[i], candidates[i].tokens, candidates[i].parents) for i in _largest(still, self._beams)]
        return self._goes_on(length, bool(hits.all()))

    def _finish(self, candidates: list[Hypothesis], hits: NDArray[np.bool_], length: int) -> None:
        full = self._early is True and all(h.ended for h in self.finished)
        merged = list(self.finished)
        for n, (candidate, hit) in enumerate(zip(candidates, hits, strict=True)):
            just_ended = bool(hit) and n < self._beams  # the others are there to go on with
            score = candidate.score / np.float32(length**self._penalty)
            for is_out in (full, not self._open, not just_ended):
                score = np.float32(score + _OUT) if is_out else score
            merged.append(Hypothesis(np.float32(score), candidate.tokens, candidate.parents, just_ended))
        scores = np.array([h.score for h in merged], np.float32)
        self.finished = [merged[i] for i in _largest(scores, self._beams)]

    def _goes_on(self, length: int, all_hit: bool) -> bool:
        likely = self._most if self._early == "never" and self._penalty > 0.0 else length
        best = np.float32(self.running[0].score / np.float32(likely**self._penalty))
        worst = min(h.score for h in self.finished)
        self._open = self._open and any(best > (worst if h.ended else _OUT) for h in self.finished)
        full = self._early is True and all(h.ended for h in self.finished)
        return self._open and not full and not all_hit


def _largest(values: F32, count: int) -> NDArray[np.int64]:
    """Places of the `count` largest, largest first, the first of equals first."""
    if count < len(values):
        least = np.partition(values, -count)[-count]
        places = np.flatnonzero(values >= least)
    else:
        places = np.arange(len(values))
    return np.asarray(places[np.argsort(-values[places], kind="stable")][:count], np.int64)


def beam_search(
    core: Any,
    prompts: Sequence[Sequence[int]],
    searches: Sequence[Beams],
    processors: Sequence[Sequence[Processor]],
    memories: Sequence[F32] | None = None,
    *,
    bits: int = 32,
    step_tokens: int = 1024,
    keep_scores: bool = False,
    keep_logits: bool = False,
    culprit: Callable[[], str | None] | None = None,
    adapters: Sequence[Any] | None = None,
) -> list[BeamResult]:
    """Runs the searches side by side on one cache, which is empty again in every case. adapters: the Route (None) of each prompt."""
    routes = [None] * len(prompts) if adapters is None else list(adapters)
    cache = native.Cache(core, bits=bits)
    results = [BeamResult([], [], []) for _ in prompts]
    places: dict[int, list[int]] = {}  # prompt -> the cache's sequence of each beam
    try:
        first: list[F32] = []
        for n, prompt in enumerate(prompts):
            sequence = cache.open()
            places[n] = [sequence]
            if memories is not None:
                memory = np.ascontiguousarray(memories[n], np.float32)
                adapted = arguments_of([routes[n]])
                cache.remember(
                    np.array([sequence], np.int64), memory, np.array([0, len(memory)], np.int64),
                    adapted.get("adapters"), adapted.get("adapter_of"),
                )  # fmt: skip
            first.append(_prefill(core, cache, sequence, prompt, step_tokens, routes[n]))
        rows = {n: np.repeat(row, len(searches[n].running), axis=0) for n, row in enumerate(first)}
        while rows:
            alive = []
            for n, logits in rows.items():
                if not np.isfinite(logits.max()):
                    raise NonFiniteLogits(f"the model's logits are not finite; first of all: {_name(culprit)}")
                search, ids = searches[n], np.array([[*prompts[n], *h.tokens] for h in searches[n].running], np.int64)
                scores = log_softmax(logits)
                for process in processors[n]:
                    scores = process(ids, scores)
                if keep_logits:
                    results[n].logits.append(logits.copy())
                if keep_scores:
                    results[n].scores.append(scores.copy())
                if search.advance(scores):
                    places[n] = _reorder(cache, places[n], [h.parents[-1] for h in search.running])
                    alive.append(n)
                else:
                    results[n].best = search.finished
                    for sequence in set(places.pop(n)):
                        cache.close(sequence)
            rows = _step(core, cache, places, searches, alive, routes)
    finally:
        for sequences in places.values():
            for sequence in set(sequences):
                cache.close(sequence)
    return results


def _name(culprit: Callable[[], str | None] | None) -> str:
    return (culprit() if culprit is not None else None) or "logits"


def _prefill(core: Any, cache: Any, sequence: int, prompt: Sequence[int], step_tokens: int, route: Any) -> F32:
    which = np.array([sequence], np.int64)
    for begin in range(0, len(prompt), step_tokens):
        part = np.asarray(prompt[begin : begin + step_tokens], np.int32)
        last = begin + len(part) == len(prompt)
        done = core.forward(
            part, np.array([0, len(part)], np.int64), save=False, cache=cache, sequences=which,
            rows=np.array([len(part) - 1] if last else [], np.int32), **arguments_of([route]),
        )  # fmt: skip
    return np.array(done.logits)


def _reorder(cache: Any, places: list[int], parents: list[int]) -> list[int]:
    """The sequences of the beams that go on: a parent's own for its first child, forks for the others."""
    owners = places if len(places) > 1 else places * (max(parents) + 1)
    taken: set[int] = set()
    after = []
    for parent in parents:
        sequence = owners[parent]
        after.append(cache.fork(sequence) if sequence in taken else sequence)
        taken.add(sequence)
    for sequence in set(places) - taken:
        cache.close(sequence)
    return after


def _step(
    core: Any, cache: Any, places: dict[int, list[int]], searches: Sequence[Beams], alive: Sequence[int], routes: Sequence[Any]
) -> dict[int, F32]:
    if not alive:
        return {}
    sequences = np.array([s for n in alive for s in places[n]], np.int64)
    tokens = np.array([h.tokens[-1] for n in alive for h in searches[n].running], np.int32)
    splits = np.arange(len(tokens) + 1, dtype=np.int64)
    adapted = arguments_of([routes[n] for n in alive for _ in places[n]])
    logits = core.forward(tokens, splits, save=False, cache=cache, sequences=sequences, **adapted).logits
    rows, begin = {}, 0
    for n in alive:
        rows[n] = logits[begin : begin + len(places[n])]
        begin += len(places[n])
    return rows
