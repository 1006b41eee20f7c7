"""Dialogue state tracking: after every turn each slot keeps its value, is cleared, or takes one of the values on offer.

One log-linear model for all slots (a softmax over keep, clear and the slot's candidates). What speaks for a decision are named
features: cues of the turn (character n-grams of what was said), which slots are filled, which have something on offer, what the
slots before this one in the order have done in this turn (a classifier chain: Read et al. 2011), and cues of each candidate. What
the candidates and cues are is the caller's business; what they mean is learnt from dialogues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidate", "Example", "Tracker", "Turn", "lbfgs", "ngrams"]

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
_CLEAR, _TAKE, _KEEP, _UNKNOWN = 0, 1, 2, 3  # keep is what the others are measured against: its score is 0


class Candidate(NamedTuple):
    """A value that a slot could take, and what speaks for it: names of features, learnt for each slot."""

    value: str
    cues: tuple[str, ...]


class Turn(NamedTuple):
    """What a turn offers. cues: names of features of the whole turn; candidates: for each slot (absent = none), first the likeliest."""

    cues: frozenset[str]
    candidates: Mapping[str, Sequence[Candidate]]


class Example(NamedTuple):
    """A turn, and the state before and after it: slot -> value, absent = empty."""

    turn: Turn
    before: Mapping[str, str]
    after: Mapping[str, str]


def ngrams(text: str, sizes: Iterable[int], name: str = "") -> Iterator[str]:
    """name + each run of so many characters, with a mark at both ends."""
    text = f"\x02{text}\x03"
    for size in sizes:
        for start in range(len(text) - size + 1):
            yield name + text[start : start + size]


@dataclass(frozen=True)
class Tracker:
    """slots: in the order in which they are decided. weights [F, slots, 2] of the turn's features for clear and for take, against
    keep; values [C]: the weights of the cues of candidates. Features and cues that training did not see say nothing."""

    slots: tuple[str, ...]
    features: dict[str, int]
    weights: F32
    cues: dict[str, int]
    values: F32

    def step(self, before: Mapping[str, str], turn: Turn) -> dict[str, str]:
        """The state after the turn. A pure function."""
        after = {slot: value for slot, value in before.items() if value}
        rows = [self.features[name] for name in _given(self.slots, before, turn) if name in self.features]
        scores = self.weights[rows].sum(axis=0, dtype=np.float64)
        for place, slot in enumerate(self.slots):
            offered = [option for option in turn.candidates.get(slot, ()) if option.value != before.get(slot, "")]
            best, act = 0.0, _KEEP
            if before.get(slot) and scores[place, _CLEAR] > best:
                best, act = float(scores[place, _CLEAR]), _CLEAR
                after.pop(slot, None)
            for option in offered:
                known = [self.cues[cue] for cue in _crossed(slot, option) if cue in self.cues]
                score = float(scores[place, _TAKE] + self.values[known].sum())
                if score > best:
                    best, act = score, _TAKE
                    after[slot] = option.value
            row = self.features.get(_done(slot, act))
            if row is not None:
                scores = scores + self.weights[row]
        return after

    @classmethod
    def fit(
        cls, slots: Sequence[str], examples: Sequence[Example], *, least: int = 6, decay: float = 2e-4, passes: int = 50
    ) -> Tracker:
        """Maximum likelihood with decay * |weights|² / 2 a row, by L-BFGS. least: a feature that fewer turns have is left out.

        A change to a value that was not on offer teaches nothing about its slot. ValueError without examples.
        """
        if not examples:
            raise ValueError("no examples to learn tracking from")
        acts = [[_act(slot, example) for slot in slots] for example in examples]
        rows = [
            [
                *_given(slots, example.before, example.turn),
                *(_done(s, act) for s, act in zip(slots, done, strict=True) if act < _KEEP),
            ]
            for example, done in zip(examples, acts, strict=True)
        ]
        counts = Counter(name for row in rows for name in set(row))
        features = {name: i for i, name in enumerate(sorted(name for name, count in counts.items() if count >= least))}
        table = np.zeros((len(rows), len(features)), np.float32)
        for i, row in enumerate(rows):
            table[i, [features[name] for name in row if name in features]] = 1
        allowed = np.ones((len(features), len(slots)), np.float32)
        for place, slot in enumerate(slots):  # a slot sees only what is decided before it
            for act in (_CLEAR, _TAKE):
                row_of = features.get(_done(slot, act))
                if row_of is not None:
                    allowed[row_of, : place + 1] = 0
        problem = _Problem.of(slots, examples, acts, least)
        weights, values = problem.solve(table, allowed, decay, passes)
        return cls(tuple(slots), features, weights, problem.cues, values)


def _given(slots: Sequence[str], before: Mapping[str, str], turn: Turn) -> Iterator[str]:
    yield "1"
    yield from turn.cues
    for slot in slots:
        if before.get(slot):
            yield f"filled {slot}"
        offered = [option for option in turn.candidates.get(slot, ()) if option.value != before.get(slot, "")]
        if offered:
            yield f"offered {slot}"
            yield from (f"offered {slot} {cue}" for cue in offered[0].cues)


def _done(slot: str, act: int) -> str:
    return f"done {slot} {act}"


def _crossed(slot: str, option: Candidate) -> list[str]:
    return [f"{slot} {cue}" for cue in option.cues]


def _act(slot: str, example: Example) -> int:
    """_UNKNOWN where the value after was not on offer."""
    before, after = example.before.get(slot, ""), example.after.get(slot, "")
    if before == after:
        return _KEEP
    if not after:
        return _CLEAR
    return _TAKE if any(option.value == after for option in example.turn.candidates.get(slot, ())) else _UNKNOWN


@dataclass(frozen=True)
class _Problem:
    """Options in one row each: all of a cell (turn, slot) stand together, keep first, clear if the slot is filled, candidates."""

    cell: I64  # [options] which cell
    column: I64  # [options] (turn * slots + slot) * 2 + act; behind the last for keep
    starts: I64  # [cells] first option
    right: I64  # [cells] the option that was right
    owner: I64  # [cue uses] which option
    cue: I64  # [cue uses] which cue
    cues: dict[str, int]

    @classmethod
    def of(cls, slots: Sequence[str], examples: Sequence[Example], acts: Sequence[Sequence[int]], least: int) -> _Problem:
        cell: list[int] = []
        column: list[int] = []
        starts: list[int] = []
        right: list[int] = []
        uses: list[tuple[int, str]] = []
        nothing = len(examples) * len(slots) * 2
        for i, (example, done) in enumerate(zip(examples, acts, strict=True)):
            for place, slot in enumerate(slots):
                base = (i * len(slots) + place) * 2
                before, after = example.before.get(slot, ""), example.after.get(slot, "")
                offered = [option for option in example.turn.candidates.get(slot, ()) if option.value != before]
                if done[place] == _UNKNOWN or not (before or offered):
                    continue  # nothing to decide
                starts.append(len(cell))
                chosen = len(cell) if done[place] == _KEEP else -1
                options = [_KEEP] + [_CLEAR] * bool(before)
                if done[place] == _CLEAR:
                    chosen = len(cell) + 1
                for option in offered:
                    at = len(cell) + len(options)
                    options.append(_TAKE)
                    uses += [(at, cue) for cue in _crossed(slot, option)]
                    if option.value == after and chosen < 0:
                        chosen = at
                cell += [len(starts) - 1] * len(options)
                column += [base + act if act < _KEEP else nothing for act in options]
                right.append(chosen)
        counts = Counter(cue for _, cue in uses)
        cues = {cue: i for i, cue in enumerate(sorted(cue for cue, count in counts.items() if count >= least))}
        kept = [(at, cues[cue]) for at, cue in uses if cue in cues]
        owner, cue_of = np.array(kept, np.int64).reshape(-1, 2).T
        return cls(
            np.array(cell, np.int64), np.array(column, np.int64), np.array(starts, np.int64), np.array(right, np.int64), owner, cue_of, cues
        )  # fmt: skip

    def solve(self, table: F32, allowed: F32, decay: float, passes: int) -> tuple[F32, F32]:
        rows, width = table.shape
        shape = (width, allowed.shape[1], 2)
        size = int(np.prod(shape))
        mask = np.repeat(allowed[:, :, None], 2, axis=2)

        def loss(point: F32) -> tuple[float, F32]:
            weights, values = point[:size].reshape(shape), point[size:]
            scores = np.append(table @ weights.reshape(width, -1), np.float32(0))[self.column]
            scores = scores + np.bincount(self.owner, values[self.cue], len(scores))
            top = np.maximum.reduceat(scores, self.starts)[self.cell]
            chance = np.exp(scores - top)
            total = np.add.reduceat(chance, self.starts)
            cost = float((np.log(total) + top[self.starts] - scores[self.right]).sum())
            chance /= total[self.cell]
            chance[self.right] -= 1
            spread = np.bincount(self.column, chance, rows * shape[1] * 2 + 1)[:-1].reshape(rows, -1).astype(np.float32)
            slope = np.empty_like(point)
            slope[:size] = ((table.T @ spread).reshape(shape) * mask).ravel()
            slope[size:] = np.bincount(self.cue, chance[self.owner], len(values))
            strength = decay * rows
            return cost + strength * float(point @ point) / 2, slope + np.float32(strength) * point

        point = lbfgs(loss, np.zeros(size + len(self.cues), np.float32), passes)
        return point[:size].reshape(shape), point[size:]


def lbfgs(loss: Callable[[F32], tuple[float, F32]], start: F32, passes: int, memory: int = 8, tolerance: float = 1e-5) -> F32:
    """The point [n] where a convex loss (value, gradient [n]) is least: limited-memory BFGS with backtracking (Nocedal 1980)."""
    point = start
    value, slope = loss(point)
    moves: list[tuple[F32, F32, float]] = []
    for _ in range(passes):
        step = slope.copy()
        factors = []
        for move, turn, scale in reversed(moves):
            factor = scale * float(move @ step)
            factors.append(factor)
            step -= np.float32(factor) * turn
        if moves:
            move, turn, scale = moves[-1]
            step *= np.float32(1 / (scale * float(turn @ turn)))
        else:
            step /= np.float32(np.linalg.norm(step) + 1e-12)
        for (move, turn, scale), factor in zip(moves, reversed(factors), strict=True):
            step += np.float32(factor - scale * float(turn @ step)) * move
        descent, rate = float(step @ slope), 1.0
        while True:
            new = point - np.float32(rate) * step
            new_value, new_slope = loss(new)
            if new_value <= value - 1e-4 * rate * descent or rate < 1e-4:
                break
            rate /= 2
        move, turn = new - point, new_slope - slope
        bend = float(move @ turn)
        if bend > 1e-10:
            moves = [*moves[1 - memory :], (move, turn, 1 / bend)]
        better = value - new_value
        point, value, slope = new, new_value, new_slope
        if better < tolerance * abs(value):
            break
    return point
