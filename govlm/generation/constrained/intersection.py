"""Two constraints at once: only what both allow, and nothing that leads where they have no more in common."""

from __future__ import annotations

from collections.abc import Sequence

from govlm.generation.constrained.constraint import Automaton, Constraint, State

__all__ = ["both"]

Pair = tuple[State, State]
_SEARCHED = 5_000  # pairs that one look ahead visits; beyond, a way on is assumed
_KEPT = 200_000  # pairs whose answer is kept
_KEPT_ROWS = 1_000  # of each side
_CLOSERS = b'"}]'  # looked at first: where the texts are JSON they come to an end soonest that way
_ORDER = (*_CLOSERS, *(byte for byte in range(256) if byte not in _CLOSERS))


def both(left: Constraint, right: Constraint) -> Constraint:
    """Texts that both constraints allow (of one vocabulary; any number by nesting).

    A token is allowed when both allow it and some text of both goes on from there: the constraints may part later on (one wants a
    figure, the other has none left), and what only leads there is refused. ValueError: no text fits both. The look ahead is
    bounded; where it was too short, `allowed` raises ValueError once nothing may follow.
    """
    if left.vocabulary is not right.vocabulary:
        raise ValueError("both() wants constraints that were made with the same Vocabulary")
    return Constraint(_Intersection(left.automaton, right.automaton), left.vocabulary)


class _Intersection:
    """Its states are pairs."""

    def __init__(self, left: Automaton, right: Automaton) -> None:
        self._left, self._right = left, right
        self.start: Pair = (left.start, right.start)
        self._alive: dict[Pair, bool] = {}
        self._rows: tuple[dict[State, Sequence[State | None]], ...] = ({}, {})
        if not self._lives(self.start):
            raise ValueError("no text fits both constraints")

    def row(self, state: State) -> list[Pair | None]:
        known: dict[Pair, Pair | None] = {}
        found: list[Pair | None] = []
        for pair in self._pairs(state):
            if pair is not None and pair not in known:
                known[pair] = pair if self._lives(pair) else None
            found.append(None if pair is None else known[pair])
        return found

    def accepting(self, state: State) -> bool:
        assert isinstance(state, tuple)
        left, right = state
        return self._left.accepting(left) and self._right.accepting(right)

    def _pairs(self, state: State) -> list[Pair | None]:
        assert isinstance(state, tuple)
        rows = []
        for automaton, part, kept in zip((self._left, self._right), state, self._rows, strict=True):
            if part not in kept:
                if len(kept) >= _KEPT_ROWS:
                    kept.clear()
                kept[part] = automaton.row(part)
            rows.append(kept[part])
        return [None if a is None or b is None else (a, b) for a, b in zip(*rows, strict=True)]

    def _lives(self, pair: Pair) -> bool:
        """Whether an accepting pair can be reached: a search in depth that remembers what it finds."""
        if pair in self._alive:
            return self._alive[pair]
        if len(self._alive) > _KEPT:
            self._alive.clear()
        came: dict[Pair, Pair | None] = {}  # those that were looked at, and where from
        todo: list[tuple[Pair, Pair | None]] = [(pair, None)]
        while todo:
            here, before = todo.pop()
            if here in came or self._alive.get(here) is False:
                continue
            came[here] = before
            if self._alive.get(here) or self.accepting(here):
                way: Pair | None = here
                while way is not None:
                    self._alive[way] = True
                    way = came[way]
                return True
            if len(came) > _SEARCHED:
                self._alive[pair] = True
                return True
            after = self._pairs(here)
            ways = dict.fromkeys(following for byte in _ORDER if (following := after[byte]) is not None)
            todo += [(following, here) for following in reversed(ways)]
        self._alive.update(dict.fromkeys(came, False))
        return False
