"""A constraint: an automaton over bytes, asked in tokens. Masks over the vocabulary are worked out once a state and kept."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from govlm.generation.constrained.vocabulary import Vocabulary

__all__ = ["ENDED", "Automaton", "Constraint"]

State = Hashable
ENDED = "ended"  # the state after an end-of-sequence token
_ROWS = 10_000  # rows of the transition table (2 KiB each) before it starts anew
_REFUSED, _UNKNOWN = 0, -1
_MASK_BYTES = 64 << 20  # masks that are kept


class Automaton(Protocol):
    """A deterministic automaton over UTF-8 bytes, from each of whose states an accepting one can be reached."""

    @property
    def start(self) -> State: ...

    def row(self, state: State) -> Sequence[State | None]:
        """The state after each of the 256 bytes, None where the byte is refused."""

    def accepting(self, state: State) -> bool: ...


class Constraint:
    """Which tokens may come next. States are opaque, immutable and hashable; one constraint serves any number of sequences and
    threads.

        state = constraint.start()
        logits[~constraint.allowed(state)] = -inf
        state = constraint.advance(state, token)
    """

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self.automaton = automaton
        self.vocabulary = vocabulary
        self._lock = threading.Lock()
        self._masks: dict[State, NDArray[np.bool_]] = {}
        self._clear()

    def _clear(self) -> None:
        """State n has the number 256 n, which is the place of its row in the table; 0 is no state, and leads nowhere."""
        self._numbers: dict[State, int] = {}
        self._states: list[State] = [None]
        self._table = np.full(64 * 256, _UNKNOWN, np.int64)
        self._table[:256] = _REFUSED

    def start(self) -> State:
        """The state before the first token."""
        return self.automaton.start

    def finished(self, state: State) -> bool:
        """Whether the text may end here (or has ended)."""
        return state is ENDED or self.automaton.accepting(state)

    def allowed(self, state: State) -> NDArray[np.bool_]:
        """Mask [V], read-only: the tokens that may come next. Never all False unless the state is finished: the ids of end of
        sequence are in it exactly where it is, and nothing but them after one of them. ValueError where the text can neither end
        nor go on (see both())."""
        with self._lock:
            mask = self._masks.pop(state, None)
            if mask is None:
                if state is ENDED:
                    mask = np.zeros(len(self.vocabulary), np.bool_)
                else:
                    if len(self._states) > _ROWS:
                        self._clear()
                    mask = self.vocabulary.walk(self._number(state), self._step)
                if self.finished(state):
                    mask[list(self.vocabulary.eos)] = True
                elif not mask.any():
                    raise ValueError(
                        "the constraint allows no token here and no end: what its parts ask for does not fit together"
                    )
                mask.flags.writeable = False
                while self._masks and (len(self._masks) + 1) * len(mask) > _MASK_BYTES:
                    del self._masks[next(iter(self._masks))]  # the one not asked for longest
            self._masks[state] = mask
            return mask

    def advance(self, state: State, token_id: int) -> State:
        """The state after a token. ValueError when it is not allowed there."""
        if not 0 <= token_id < len(self.vocabulary):
            raise ValueError(f"token {token_id} is no id of a vocabulary of {len(self.vocabulary)} tokens")
        if token_id in self.vocabulary.eos:
            if not self.finished(state):
                raise ValueError(f"token {token_id} ends the text where the constraint is not finished")
            return ENDED
        spelling = self.vocabulary.tokens[token_id]
        after: State | None = None if state is ENDED or not spelling else state
        with self._lock:
            for byte in spelling:
                if after is None:
                    break
                number = self._number(after)
                if self._table[number] == _UNKNOWN:
                    self._fill(number)
                after = self._states[self._table[number + byte] >> 8]
        if after is None:
            raise ValueError(f"token {token_id} ({spelling!r}) is not allowed in this state")
        return after

    def _number(self, state: State) -> int:
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = 256 * len(self._states)
            self._states.append(state)
            if number == len(self._table):
                self._table = np.concatenate([self._table, np.full_like(self._table, _UNKNOWN)])
        return number

    def _fill(self, number: int) -> None:
        row = [_REFUSED if state is None else self._number(state) for state in self.automaton.row(self._states[number >> 8])]
        self._table[number : number + 256] = row

    def _step(self, states: NDArray[np.int64], seen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of the states after a byte each; rows of the table are worked out where they are first needed."""
        places = states + seen
        after = self._table.take(places)
        unknown = np.flatnonzero(after == _UNKNOWN)
        if len(unknown):
            for number in np.unique(states[unknown]).tolist():
                self._fill(number)
            after = self._table.take(places)
        return after
