"""The tokens of a tokenizer as a trie of bytes, walked by NumPy: which tokens does an automaton let through?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.generation.constrained.characters import EVERY, Ranges, intersect, spelled, union

__all__ = ["Vocabulary"]

Numbers = NDArray[np.int64]
_HIGH = {bytes([byte]) for byte in (*range(0x80, 0xC0), *range(0xC2, 0xF5))}  # the bytes of characters beyond ASCII


class Vocabulary:
    """What each token contributes to the text, as bytes.

    tokens: one entry an id; b"" (special tokens, ids without a token) is never generated inside a constraint.
    eos: the ids that end the text, allowed where a constraint is finished.

    `alphabet` is the set of characters that the vocabulary can spell in any place: all that its tokens of one byte spell, and
    those that are a token of their own. Constraints ask for no other, so that none ever leads where no token fits. Where single
    bytes are missing, tokens that hold a part of a character are not used: nothing might complete them.
    """

    def __init__(self, tokens: Sequence[bytes], eos: Iterable[int] = ()) -> None:
        self.eos = tuple(eos)
        for index in self.eos:
            if not 0 <= index < len(tokens):
                raise ValueError(f"eos {index} is no id of a vocabulary of {len(tokens)} tokens")
        ends = set(self.eos)
        tokens = [b"" if index in ends else bytes(token) for index, token in enumerate(tokens)]
        single = {token for token in tokens if len(token) == 1}
        whole = single >= _HIGH
        characters = []
        for index, token in enumerate(tokens):
            if len(token) <= 4 or not whole:
                try:
                    text = token.decode()
                except UnicodeDecodeError:
                    if not whole:
                        tokens[index] = b""
                    continue
                if len(text) == 1:
                    characters.append(text)
        self.alphabet: Ranges = spelled(characters)
        if whole:
            self.alphabet = union(self.alphabet, intersect(EVERY, ((0x80, 0x10FFFF),)))
        self.tokens: list[bytes] = tokens
        self._build()

    @classmethod
    def of(cls, tokenizer: Any, size: int | None = None) -> Vocabulary:
        """The vocabulary of a govlm tokenizer (`token_bytes`, `all_special_ids`, `eos_token_id`).

        size: rows of the model's logits when they are more than the tokenizer's tokens; the rest is never generated.
        """
        count = len(tokenizer)
        special = set(tokenizer.all_special_ids)
        tokens = [b"" if index in special else tokenizer.token_bytes(index) for index in range(count)]
        if size is not None and size < count:
            raise ValueError(f"size {size} is less than the {count} tokens of the tokenizer")
        tokens += [b""] * ((size or count) - count)
        eos = getattr(tokenizer, "eos_token_id", None)
        return cls(tokens, () if eos is None else [eos])

    def __len__(self) -> int:
        return len(self.tokens)

    def _build(self) -> None:
        """The trie, level by level: the children of a node, and the tokens that end at it, are next to each other."""
        order = np.array(sorted((i for i, t in enumerate(self.tokens) if t), key=self.tokens.__getitem__), np.int64)
        spelling = [self.tokens[i] for i in order]
        length = np.array([len(t) for t in spelling], np.int64)
        data = np.frombuffer(b"".join(spelling), np.uint8)
        offset = np.cumsum(length) - length
        # How many leading bytes each token shares with the one before it.
        shared = np.zeros(len(order), np.int64)
        for row in range(1, len(order)):
            before, here = spelling[row - 1], spelling[row]
            limit = min(len(before), len(here))
            same = 0
            while same < limit and before[same] == here[same]:
                same += 1
            shared[row] = same
        byte, parent, child_count, starts = [], [], [], [0]
        # For each token the node where it ends; the last node is no node's, that of tokens without text.
        ends = np.full(len(self.tokens), -1, np.int64)
        above = np.zeros(len(order), np.int64)  # the node of each row on the level above, counted within the level
        depth, width = 0, 1
        while np.any(length > depth):
            new = (length > depth) & (shared <= depth)
            rows = np.flatnonzero(new)
            node = np.cumsum(new) - 1
            byte.append(data[offset[rows] + depth].astype(np.int64))
            parent.append(above[rows])
            child_count.append(np.bincount(above[rows], minlength=width))
            last = np.flatnonzero(length == depth + 1)
            ends[order[last]] = node[last] + starts[-1]
            above, width = node, len(rows)
            starts.append(starts[-1] + width)
            depth += 1
        if not byte:
            raise ValueError("the vocabulary has no token with text")
        child_count.append(np.zeros(width, np.int64))
        counts = np.concatenate(child_count[1:])
        self._byte, self._parent, self._child_count = np.concatenate(byte), np.concatenate(parent), counts
        self._child = np.cumsum(counts) - counts + starts[1]
        self._starts, self._end_node = starts, ends

    def walk(self, start: int, step: Callable[[Numbers, Numbers], Numbers]) -> NDArray[np.bool_]:
        """Mask [V] of the tokens whose bytes an automaton accepts from a state.

        step: states [N] (0 = refused) and the byte [N] that each sees -> states [N].

        Level by level: over all nodes where many are alive, else over the children of those that are.
        """
        alive = np.zeros(len(self._byte) + 1, np.bool_)
        level: Numbers | None = np.full(1, start, np.int64)  # the states of all nodes of the level above, or
        nodes = states = np.zeros(0, np.int64)  # those that are alive, and their states
        for first, last in zip(self._starts, self._starts[1:], strict=False):
            if level is not None:
                level = step(level.take(self._parent[first:last]), self._byte[first:last])
                count = int(np.count_nonzero(level))
                np.not_equal(level, 0, out=alive[first:last])
                if count * 4 < last - first:
                    nodes = np.flatnonzero(level)
                    states, nodes, level = level[nodes], nodes + first, None
            else:
                counts = self._child_count[nodes]
                nodes = _spans(self._child[nodes], counts)
                states = step(np.repeat(states, counts), self._byte[nodes])
                kept = states != 0
                nodes, states = nodes[kept], states[kept]
                alive[nodes] = True
                count = len(nodes)
                if count * 3 > last - first:
                    level = np.zeros(last - first, np.int64)
                    level[nodes - first] = states
            if not count:
                break
        return alive.take(self._end_node)


def _spans(starts: Numbers, counts: Numbers) -> Numbers:
    """The numbers start, start + 1, … start + count - 1 of every pair, one after the other."""
    total = int(counts.sum())
    return np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(total)
