"""From the tree of an expression to a deterministic automaton over UTF-8 bytes: Thompson's construction, then subsets.

Calls of other rules of a grammar are transitions of their own kind; pushdown.py follows them.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from govlm.generation.constrained.characters import Ranges, intersect, sequences
from govlm.generation.constrained.expressions import (
    Call,
    Chars,
    Choice,
    Expression,
    Machine,
    Members,
    Repeat,
    Sequence,
)

__all__ = ["Dfa", "compile_expression", "product"]

_MAX_NODES = 60_000
_MAX_STATES = 12_000
_MAX_WORK = 1_000_000  # nodes in all subsets together


@dataclass
class Dfa:
    """table: int32 [states, 256], -1 = refused; ends: bool [states]; calls: per state the (rule, state after it). It starts in
    state 0, and from every state an end can be reached (when all calls can)."""

    table: NDArray[np.int32]
    ends: NDArray[np.bool_]
    calls: list[tuple[tuple[str, int], ...]]

    start = 0

    def row(self, state: object) -> Rows[int | None]:
        assert isinstance(state, int)
        return [None if after < 0 else after for after in self.table[state].tolist()]

    def accepting(self, state: object) -> bool:
        assert isinstance(state, int)
        return bool(self.ends[state])


def compile_expression(expression: Expression, alphabet: Ranges, what: str) -> Dfa:
    """The automaton of an expression, its sets of characters cut to the alphabet.

    what: names the expression in errors. ValueError: it is too large, or stands for no text that the alphabet can spell.
    """
    network = _Network(alphabet, what)
    end = network.add(expression, network.node())
    network.trim(end)
    return network.determine(end)


class _Network:
    """A nondeterministic automaton under construction; its start is node 0."""

    def __init__(self, alphabet: Ranges, what: str) -> None:
        self.alphabet = alphabet
        self.what = what
        self.empty: list[list[int]] = []
        self.bytes: list[list[tuple[int, int, int]]] = []
        self.calls: list[list[tuple[str, int]]] = []

    def node(self) -> int:
        if len(self.empty) >= _MAX_NODES:
            raise ValueError(f"{self.what}: too large (more than {_MAX_NODES} nodes); use smaller repeats")
        self.empty.append([])
        self.bytes.append([])
        self.calls.append([])
        return len(self.empty) - 1

    def add(self, node: Expression, start: int) -> int:
        """Adds the fragment that begins at a node; the node where it ends."""
        if isinstance(node, Chars):
            return self.characters(intersect(node.ranges, self.alphabet), start)
        if isinstance(node, Sequence):
            for part in node.parts:
                start = self.add(part, start)
            return start
        if isinstance(node, Choice):
            end = self.node()
            for part in node.parts:
                entry = self.node()
                self.empty[start].append(entry)
                self.empty[self.add(part, entry)].append(end)
            return end
        if isinstance(node, Repeat):
            return self.repeat(node, start)
        if isinstance(node, Members):
            return self.members(node, start)
        if isinstance(node, Call):
            end = self.node()
            self.calls[start].append((node.rule, end))
            return end
        assert isinstance(node, Machine)
        return self.machine(node.automaton, start)

    def characters(self, ranges: Ranges, start: int) -> int:
        end = self.node()
        tails: dict[tuple[tuple[int, int], ...], int] = {(): end}
        for sequence in sequences(ranges):
            for cut in range(len(sequence) - 1, 0, -1):
                tail = sequence[cut:]
                if tail not in tails:
                    tails[tail] = self.node()
                    self.bytes[tails[tail]].append((*tail[0], tails[tail[1:]]))
            self.bytes[start].append((*sequence[0], tails[sequence[1:]]))
        return end

    def repeat(self, node: Repeat, start: int) -> int:
        for _ in range(node.low):
            start = self.add(node.part, start)
        end = self.node()
        if node.high is None:
            loop = self.node()
            self.empty[start].append(loop)
            self.empty[self.add(node.part, loop)].append(loop)
            self.empty[loop].append(end)
            return end
        self.empty[start].append(end)
        for _ in range(node.high - node.low):
            entry = self.node()
            self.empty[start].append(entry)
            start = self.add(node.part, entry)
            self.empty[start].append(end)
        return end

    def members(self, node: Members, start: int) -> int:
        """Two nodes before each part: nothing is there yet, or something is and a separator comes first."""
        none, some = start, self.node()
        for required, part in node.parts:
            entry, after = self.node(), self.node()
            self.empty[none].append(entry)
            self.empty[self.add(node.separator, some)].append(entry)
            self.empty[self.add(part, entry)].append(after)
            skipped = self.node()
            if not required:
                self.empty[none].append(skipped)
                self.empty[some].append(after)
            none, some = skipped, after
        end = self.node()
        self.empty[none].append(end)
        self.empty[some].append(end)
        return end

    def machine(self, automaton: Dfa, start: int) -> int:
        end = self.node()
        nodes = [self.node() for _ in range(len(automaton.table))]
        self.empty[start].append(nodes[0])
        for state, node in enumerate(nodes):
            row = automaton.table[state]
            cuts = np.flatnonzero(np.diff(row)) + 1
            for low, high in zip([0, *cuts.tolist()], [*(cuts - 1).tolist(), 255], strict=True):
                if row[low] >= 0:
                    self.bytes[node].append((low, high, nodes[row[low]]))
            if automaton.ends[state]:
                self.empty[node].append(end)
        return end

    def trim(self, end: int) -> None:
        """Takes out what does not lead to the end."""
        before: list[list[int]] = [[] for _ in self.empty]
        for node in range(len(self.empty)):
            for after in (*self.empty[node], *(t for _, _, t in self.bytes[node]), *(t for _, t in self.calls[node])):
                before[after].append(node)
        alive, todo = {end}, [end]
        while todo:
            for node in before[todo.pop()]:
                if node not in alive:
                    alive.add(node)
                    todo.append(node)
        if 0 not in alive:
            raise ValueError(f"{self.what}: no text that the vocabulary can spell fits")
        for node in range(len(self.empty)):
            self.empty[node] = [t for t in self.empty[node] if t in alive]
            self.bytes[node] = [edge for edge in self.bytes[node] if edge[2] in alive]
            self.calls[node] = [call for call in self.calls[node] if call[1] in alive]

    def closure(self, nodes: frozenset[int], end: int) -> frozenset[int]:
        """All that is reached without a byte, of it the nodes that matter: those with a way on, and the end."""
        seen, todo = set(nodes), list(nodes)
        while todo:
            for after in self.empty[todo.pop()]:
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        return frozenset(n for n in seen if self.bytes[n] or self.calls[n] or n == end)

    def determine(self, end: int) -> Dfa:
        closed: dict[frozenset[int], frozenset[int]] = {}
        numbers: dict[frozenset[int], int] = {}
        subsets: list[frozenset[int]] = []

        def number(nodes: frozenset[int]) -> int:
            if nodes not in closed:
                closed[nodes] = self.closure(nodes, end)
            subset = closed[nodes]
            if subset not in numbers:
                if len(subsets) >= _MAX_STATES:
                    raise ValueError(f"{self.what}: too large (more than {_MAX_STATES} states); use smaller repeats")
                numbers[subset] = len(subsets)
                subsets.append(subset)
            return numbers[subset]

        number(frozenset([0]))
        rows: list[NDArray[np.int32]] = []
        calls: list[tuple[tuple[str, int], ...]] = []
        work = 0
        while len(rows) < len(subsets):
            subset = subsets[len(rows)]
            work += len(subset)
            if work > _MAX_WORK:
                raise ValueError(f"{self.what}: too ambiguous; use smaller repeats")
            edges = [edge for node in subset for edge in self.bytes[node]]
            row = np.full(256, -1, np.int32)
            cuts = sorted({low for low, _, _ in edges} | {high + 1 for _, high, _ in edges})
            for low, after in pairwise(cuts):
                targets = frozenset(target for first, last, target in edges if first <= low <= last)
                if targets:
                    row[low:after] = number(targets)
            called: dict[str, set[int]] = {}
            for node in subset:
                for rule, target in self.calls[node]:
                    called.setdefault(rule, set()).add(target)
            calls.append(tuple((rule, number(frozenset(called[rule]))) for rule in sorted(called)))
            rows.append(row)
        return Dfa(np.stack(rows), np.array([end in subset for subset in subsets]), calls)


def product(left: Dfa, right: Dfa, what: str) -> Dfa:
    """What both accept; neither may have calls. ValueError: there is no such text, or it is too large."""
    numbers: dict[tuple[int, int], int] = {(0, 0): 0}
    pairs = [(0, 0)]
    rows: list[list[int]] = []
    while len(rows) < len(pairs):
        a, b = pairs[len(rows)]
        row = []
        for x, y in zip(left.table[a].tolist(), right.table[b].tolist(), strict=True):
            pair = (x, y)
            if x < 0 or y < 0:
                row.append(-1)
                continue
            if pair not in numbers:
                if len(pairs) >= _MAX_STATES:
                    raise ValueError(f"{what}: too large (more than {_MAX_STATES} states); use smaller repeats")
                numbers[pair] = len(pairs)
                pairs.append(pair)
            row.append(numbers[pair])
        rows.append(row)
    ends = np.array([bool(left.ends[a] and right.ends[b]) for a, b in pairs])
    return Dfa(np.array(rows, np.int32), ends, [()] * len(pairs))  # whoever embeds it (Machine) trims it
