"""Stop strings: a text ends with the token that completes one, as in transformers; what follows it in that token stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["StopStrings"]


class StopStrings:
    """Looks at the bytes of the last tokens, so that a string is found however it is cut into tokens."""

    def __init__(self, strings: str | Sequence[str], tokenizer: Any) -> None:
        given = [strings] if isinstance(strings, str) else list(strings)
        if not given or any(not isinstance(text, str) or not text for text in given):
            raise ValueError(f"stop_strings must be texts that are not empty, not {strings!r}")
        if tokenizer is None:
            raise ValueError("stop_strings needs the tokenizer: generate(..., tokenizer=tokenizer)")
        self._stops = tuple(text.encode("utf-8") for text in given)
        self._longest = max(map(len, self._stops))
        self._bytes = tokenizer.token_bytes

    def ends(self, ids: Iterable[int]) -> bool:
        """Whether a stop string ends within the last of these ids (the newest last; those before it may be left out once they
        make up the longest stop string)."""
        last, tail = b"", b""
        for n, index in enumerate(reversed(list(ids))):
            piece = self._bytes(int(index))
            if n == 0:
                last = piece
            else:
                tail = piece + tail
                if len(tail) >= self._longest:
                    break
        if not last:
            return False
        text = tail + last
        # found when its end lies behind the beginning of the last token
        return any(text.find(stop, max(0, len(tail) - len(stop) + 1)) >= 0 for stop in self._stops)
