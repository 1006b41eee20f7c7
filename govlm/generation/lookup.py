"""Guesses at the next tokens, out of what the text has said before: a step that proves several of them right writes them all.

A decoder on a CPU waits for its weights, so that a step over five tokens takes little longer than one over a single token. Answers
and summaries repeat their sources, and a guess that stands there is right again and again (prompt lookup decoding: Saxena, 2023;
transformers' prompt_lookup_num_tokens). Each token is still chosen from the model's own logits, as if it had come alone: the text
is the same with and without guesses, drawn ones too (of a quantised model to the bit; in float32 as the same text in a batch).
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["PromptLookup"]

_BREAK = -1  # no id: nothing matches across it
_FIRST = 4  # tokens that are guessed at first, until it shows what guesses are worth


class PromptLookup:
    """Of one text. most: tokens that a guess has at most; ngram: the longest run of last tokens that is looked for, then shorter
    ones down to one of two (one where ngram is 1); source: what the text repeats beside itself."""

    def __init__(self, most: int, ngram: int = 3, source: Sequence[int] = ()) -> None:
        self._most, self._sizes = most, range(ngram, min(ngram, 2) - 1, -1)
        self._text = [*source, _BREAK] if source else []
        self._places: dict[tuple[int, ...], int] = {}  # n-gram -> where it was last followed by something
        self._offset = len(self._text)
        self._guessed: list[int] = []
        self._length = min(most, _FIRST)
        self._note(0, self._offset)

    def _note(self, begin: int, end: int) -> None:
        """Enters the n-grams that end before each of the tokens begin .. end - 1."""
        text = self._text
        for place in range(begin, end):
            for size in self._sizes:
                if place >= size:
                    self._places[tuple(text[place - size : place])] = place

    def __call__(self, ids: Sequence[int]) -> list[int]:
        """What may follow `ids`, the text so far, which begins with those of the call before."""
        known = len(self._text) - self._offset
        new = ids[known:]
        self._text += new
        if self._guessed and new:
            right = 0
            while right < min(len(self._guessed), len(new)) and self._guessed[right] == new[right]:
                right += 1
            self._length = min(self._most, 2 * right + 1)
        self._note(self._offset + known, len(self._text))
        self._guessed = self._follow()
        return self._guessed

    def _follow(self) -> list[int]:
        """What followed the last tokens where they stood last; where that is the text's end, it goes on in the same rhythm."""
        text = self._text
        for size in self._sizes:
            place = self._places.get(tuple(text[-size:])) if len(text) >= size else None
            if place is None:
                continue
            guess: list[int] = []
            while len(guess) < self._length:
                at = place + len(guess)
                token = text[at] if at < len(text) else guess[at - len(text)]
                if token == _BREAK:
                    break
                guess.append(token)
            return guess
        return []
