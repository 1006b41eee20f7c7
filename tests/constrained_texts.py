"""Vocabularies for the tests of constrained decoding, and a generator that knows nothing but the mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from govlm.generation.constrained import Constraint, Vocabulary


def byte_level(words: Iterable[str] = ()) -> Vocabulary:
    """All single bytes, these words, their pieces that tear characters apart, two tokens without text, two ends."""
    tokens = [bytes([byte]) for byte in range(256)]
    for word in words:
        spelling = word.encode()
        tokens += [spelling, spelling, spelling[:-1], spelling[1:], spelling[-2:] + b"1", b"," + spelling[:2]]
    tokens += [b"", b"<end>", b"", b"<end of text>"]
    return Vocabulary(tokens, [len(tokens) - 1, len(tokens) - 3])


def by_characters(characters: str, words: Iterable[str] = ()) -> Vocabulary:
    """No single bytes, but the characters as they are; words; and halves of characters, which nothing completes."""
    tokens = [*(char.encode() for char in characters), *(word.encode() for word in words)]
    tokens += [char.encode()[:-1] for char in characters if len(char.encode()) > 1] + [b""]
    return Vocabulary(tokens, [len(tokens) - 1])


def generate(constraint: Constraint, rng: np.random.Generator, longest: int = 80, long_words: float = 30.0) -> str | None:
    """A text of tokens drawn at random from what is allowed, tokens of several bytes with more weight; None: it grew too long.

    Asserts on the way what every constraint promises: some token is allowed, an end exactly where it is finished.
    """
    vocabulary = constraint.vocabulary
    ends = list(vocabulary.eos)
    weight = np.array([long_words if len(token) > 1 else 1.0 for token in vocabulary.tokens])
    state = constraint.start()
    spelling = b""
    for _ in range(longest):
        mask = constraint.allowed(state)
        assert mask.shape == (len(vocabulary),)
        assert mask.any()
        assert mask[ends].all() == mask[ends].any() == constraint.finished(state)
        chances = weight * mask
        chances[ends] = mask[ends] * max(0.05 * chances.sum(), 1.0)
        token = int(rng.choice(len(mask), p=chances / chances.sum()))
        state = constraint.advance(state, token)
        if token in ends:
            assert constraint.finished(state)
            assert sorted(np.flatnonzero(constraint.allowed(state))) == sorted(ends)
            return spelling.decode()
        spelling += vocabulary.tokens[token]
    return None


def texts(constraint: Constraint, count: int, seed: int = 0, longest: int = 80) -> list[str]:
    """So many texts that came to their end; at least one in four does."""
    rng = np.random.default_rng(seed)
    found: list[str] = []
    for _ in range(4 * count):
        text = generate(constraint, rng, longest)
        if text is not None:
            found.append(text)
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} of {4 * count} texts came to an end")


def accepts(constraint: Constraint, text: str) -> bool:
    """Whether the constraint lets a text through, byte by byte (the vocabulary begins with the 256 bytes)."""
    state = constraint.start()
    for byte in text.encode():
        try:
            state = constraint.advance(state, byte)
        except ValueError:
            return False
    return constraint.finished(state)


def reachable(constraint: Constraint, most: int) -> Sequence[object]:
    """States that tokens lead to, in breadth; checks that none is a dead end."""
    start = constraint.start()
    seen, todo = {start}, [start]
    for state in todo:
        mask = constraint.allowed(state)
        assert mask.any()
        assert mask[list(constraint.vocabulary.eos)].all() == constraint.finished(state)
        for token in np.flatnonzero(mask).tolist():
            after = constraint.advance(state, token)
            if after not in seen and len(seen) < most:
                seen.add(after)
                todo.append(after)
    return todo
