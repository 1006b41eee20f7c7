"""How a clause is meant: as a fact, as a question, as a supposition (要是…), or as a denial (不是…)."""

from __future__ import annotations

import bisect
import re

from govlm.hall.understanding.plain_words import ASKING, NEGATED, SUPPOSING

__all__ = ["Clauses"]

_SIGN = re.compile("[，,。；;！!？?\n]")
_SPACE = re.compile(r"(?<=\S)[ \t]+(?=\S)")
_LEAST = 4  # characters on both sides of a space that parts clauses; 公租房 怎么 办 is one
_QUESTION = re.compile(f"{ASKING}|你们|您们|吗|几点|哪[里儿个些]|凭啥|[能得可会].{{0,12}}[^对不是]不[啊呢嘛]?[?？]?$")
_SUPPOSING = re.compile(SUPPOSING)
_THEN = re.compile("[就那便]")
_IN_CASE = re.compile("的话(?:$|[^说费题筒])")
_DENIAL = re.compile(
    rf"(?:(?:(?<!是)不是|并非)[^，,。；;！!？?\s的是]{{0,3}}|(?:{NEGATED})(?:(?<=有)(?:[我俺咱]|自己|被){{1,2}})?)$"
)


class Clauses:
    """The clauses of a text: parted by signs, and by spaces in what is written or heard without any."""

    def __init__(self, text: str) -> None:
        self._text = text
        signs = [match.start() for match in _SIGN.finditer(text)]
        spaces = [match.span() for match in _SPACE.finditer(text)]
        places = sorted([-1, *signs, *(start for start, _ in spaces), len(text)])
        ends = dict(spaces)
        kept = set(signs)
        for start, end in spaces:
            place = bisect.bisect_left(places, start)
            before = places[place - 1]
            if start - ends.get(before, before + 1) >= _LEAST and places[place + 1] - end >= _LEAST:
                kept.add(start)
        self._breaks = sorted(kept)

    def at(self, place: int, end: int | None = None) -> tuple[int, int]:
        """Where the clause that holds text[place:end] begins and ends; the sign that ends it is part of it."""
        left = bisect.bisect_left(self._breaks, place) - 1
        right = bisect.bisect_left(self._breaks, place if end is None else end)
        return (
            self._breaks[left] + 1 if left >= 0 else 0,
            self._breaks[right] + 1 if right < len(self._breaks) else len(self._text),
        )

    def asks(self, start: int, end: int) -> bool:
        """Whether text[start:end] stands in a question; 我是干部，能退吗: not the first clause."""
        first, last = self._near(start, end)
        return bool(_QUESTION.search(self._text[first:last]))

    def supposes(self, start: int, end: int) -> bool:
        """如果我是干部; not what then follows: 要是可以就提两千."""
        first, last = self._near(start, end)
        said = _SUPPOSING.search(self._text, first, start)
        if said:
            return not _THEN.search(self._text, said.end(), start)
        return bool(_IN_CASE.search(self._text[end:last]))

    def _near(self, start: int, end: int) -> tuple[int, int]:
        first, last = self.at(start, end)
        return max(first, start - 30), min(last, end + 30)

    def denies(self, start: int) -> bool:
        """Whether what begins at `start` is said not to be so: 不是提前退休, 不是我辞职."""
        return bool(_DENIAL.search(self._text[max(0, start - 10) : start]))
