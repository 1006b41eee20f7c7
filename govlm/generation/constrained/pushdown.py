"""A grammar of rules that call each other: a pushdown automaton whose states are sets of stacks, worked out as they come up.

A stack is (node, depth, stack to return to): the node of the running rule's automaton, how many calls it lies inside, and
where the caller goes on. Depth is bounded, and a call is made only where it can be ended within the bound, so that
every state leads to an accepting one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from govlm.generation.constrained.automata import Dfa

__all__ = ["MAX_DEPTH", "Pushdown"]

MAX_DEPTH = 32
_NEVER = 1 << 30
Stack = tuple[int, int, Any]


class Pushdown:
    """rules: automata by name. No rule may come back to itself without a byte in between (the caller sees to it).

    ValueError: nothing of at most max_depth calls inside each other ends the first rule.
    """

    def __init__(self, rules: dict[str, Dfa], first: str, max_depth: int = MAX_DEPTH) -> None:
        self._max_depth = max_depth
        offset = 0
        self._first: dict[str, int] = {}
        self._rows: list[list[tuple[int, int, int]]] = []  # (first byte, last byte, node after it)
        self._ends: list[bool] = []
        self._calls: list[list[tuple[str, int]]] = []
        for name, rule in rules.items():
            self._first[name] = offset
            for state in range(len(rule.table)):
                row = rule.table[state]
                cuts = np.flatnonzero(np.diff(row)) + 1
                runs = zip([0, *cuts.tolist()], [*(cuts - 1).tolist(), 255], strict=True)
                self._rows.append([(low, high, int(row[low]) + offset) for low, high in runs if row[low] >= 0])
                self._ends.append(bool(rule.ends[state]))
                self._calls.append([(called, after + offset) for called, after in rule.calls[state]])
            offset += len(rule.table)
        self._need = self._needs()
        entry = self._first[first]
        if self._need[entry] > max_depth:
            raise ValueError(f"the grammar has no text of at most {max_depth} levels")
        self.start = frozenset(self._ready([(entry, 0, None)]))

    def _needs(self) -> list[int]:
        """How many calls inside each other a node needs at least before its rule ends."""
        before: list[set[int]] = [set() for _ in self._rows]
        for node, row in enumerate(self._rows):
            for _, _, after in row:
                before[after].add(node)
        need = [_NEVER] * len(self._rows)

        def settle(nodes: list[int], level: int) -> bool:
            todo = [node for node in nodes if need[node] > level]
            changed = bool(todo)
            while todo:
                node = todo.pop()
                if need[node] > level:
                    need[node] = level
                    todo += before[node]
            return changed

        settle([node for node, end in enumerate(self._ends) if end], 0)
        callers = [(node, self._first[rule], after) for node, calls in enumerate(self._calls) for rule, after in calls]
        for level in range(1, self._max_depth + 1):
            while settle([n for n, entry, after in callers if need[entry] < level and need[after] <= level], level):
                pass
        return need

    def _ready(self, stacks: list[Stack]) -> set[Stack]:
        """Calls entered and ended rules left: the stacks that wait for a byte, or have ended the first rule."""
        ready: set[Stack] = set()
        seen: set[Stack] = set()
        todo = list(stacks)
        while todo:
            stack = todo.pop()
            node, depth, caller = stack
            if stack in seen or self._need[node] > self._max_depth - depth:
                continue
            seen.add(stack)
            if self._rows[node] or (caller is None and self._ends[node]):
                ready.add(stack)
            if caller is not None and self._ends[node]:
                todo.append(caller)
            for rule, after in self._calls[node]:
                if self._need[after] <= self._max_depth - depth:
                    todo.append((self._first[rule], depth + 1, (after, depth, caller)))
        return ready

    def row(self, state: object) -> Sequence[frozenset[Stack] | None]:
        assert isinstance(state, frozenset)
        edges = [(low, high, (after, depth, caller)) for n, depth, caller in state for low, high, after in self._rows[n]]
        found: list[frozenset[Stack] | None] = [None] * 256
        known: dict[tuple[Stack, ...], frozenset[Stack] | None] = {}
        cuts = sorted({low for low, _, _ in edges} | {high + 1 for _, high, _ in edges})
        for low, end in pairwise(cuts):
            stacks = tuple(stack for first, last, stack in edges if first <= low <= last)
            if stacks not in known:
                known[stacks] = frozenset(self._ready(list(stacks))) or None
            found[low:end] = [known[stacks]] * (end - low)
        return found

    def accepting(self, state: object) -> bool:
        assert isinstance(state, frozenset)
        return any(caller is None and self._ends[node] for node, _, caller in state)
