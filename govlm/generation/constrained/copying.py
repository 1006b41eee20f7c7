"""Copy mode: numbers, dates, amounts and names may only be copied from the sources; every other word is free.

A *figure* is a longest stretch of text that begins with a digit (of any script; ½, ①, Ⅳ too) or a Chinese numeral, goes on
with these, units (年 月 日 元 个 % …) and ASCII letters, and holds one of . , : / - only right before a further digit or numeral:
2024年5月1日, 12.5%, 1,000元, 010-12345678, 三十个, 3个, 44030019900101123X. Each figure of the text has to be a figure of a
source, whole: where the sources have 30, neither 3 nor 300 nor 30.5 nor 30元 passes. The numerals inside ordinary words count
(一 in 一般): such a word passes where the sources have the same figure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import cast

from govlm.generation.constrained.characters import Ranges, complement, contains, intersect, meets, spelled, union
from govlm.generation.constrained.constraint import Constraint
from govlm.generation.constrained.vocabulary import Vocabulary

__all__ = ["CopyConstraint", "copied", "figures"]

_NUMERALS = "零〇○一二三四五六七八九十百千万亿兆两俩仨廿卅壹贰貳叁參肆伍陆陸柒捌玖拾佰仟萬億兩半"
_UNITS = "年月日号號时時点點分秒元角周天岁歲个個名人份次项條条款页頁户栋层楼室级級倍成折度%％‰℃°米里亩吨"
_UNITS += "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_JOINTS = ".,:/-．：／－"
MAX_FIGURE = 128  # characters
# Where a text is: the node of the figure that it is in (0: in none), the joint that came after it or "", the node of the names.
Place = tuple[int, str, int]
Where = tuple[Place, bytes]
_OUTSIDE: Place = (0, "", 0)


@lru_cache(maxsize=1)
def _core() -> Ranges:
    numeric = (char for char in map(chr, range(0x20000)) if char.isnumeric())  # Unicode has no digits beyond
    digits = (char for char in numeric if unicodedata.category(char) in ("Nd", "No", "Nl"))
    return union(spelled(digits), spelled(_NUMERALS))


@lru_cache(maxsize=1)
def _figure() -> re.Pattern[str]:
    core = "".join(f"{chr(low)}-{chr(high)}" for low, high in _core())
    return re.compile(f"[{core}](?:[{core}{_UNITS}]|[{re.escape(_JOINTS)}](?=[{core}]))*")


def figures(text: str) -> list[str]:
    """The figures of a text, in order."""
    return _figure().findall(text)


def copied(text: str, sources: Sequence[str], names: Iterable[str] = ()) -> bool:
    """Whether every figure of the text, and each of the names that it holds, is in the sources: what CopyConstraint ensures."""
    known = {figure for source in sources for figure in figures(source)}
    if not known.issuperset(figures(text)):
        return False
    return all(any(name in source for source in sources) for name in names if name in text)


class CopyConstraint(Constraint):
    """Text whose figures (see the module) and names occur verbatim in the sources; otherwise free, and may end anywhere but
    inside a figure.

    sources: the spans to copy from. Figures of more than 128 characters cannot be copied.
    names: the names to watch (people, offices, places …): one that no source holds is never written.
    """

    def __init__(self, sources: Sequence[str], vocabulary: Vocabulary, names: Iterable[str] = ()) -> None:
        if isinstance(sources, str):
            raise ValueError("sources: a sequence of texts, not one text")
        strange = [name for name in dict.fromkeys(names) if not any(name in source for source in sources)]
        known = {figure for source in sources for figure in figures(source) if len(figure) <= MAX_FIGURE}
        super().__init__(_Copying(sorted(known), strange, vocabulary.alphabet), vocabulary)


class _Copying:
    """Its states are (place, bytes of a character that has begun)."""

    def __init__(self, known: Sequence[str], strange: Sequence[str], alphabet: Ranges) -> None:
        self._core = _core()
        self._inside = union(self._core, spelled(_UNITS))
        self._joints = spelled(_JOINTS)
        self._figures = _Trie(figure for figure in known if all(contains(alphabet, ord(char)) for char in figure))
        self._names = _Trie(strange)
        self._fail = self._failures()
        self._alphabet = alphabet
        self._free = intersect(complement(self._core), alphabet)  # what may come outside a figure
        self._after = intersect(complement(self._inside), alphabet)  # what may come after a whole figure
        # All other characters do the same in every place: they end a figure and begin no name.
        self._special = union(self._inside, self._joints, spelled("".join(strange)))
        self._ends: dict[tuple[int, int], bool] = {}
        self.start: Where = (_OUTSIDE, b"")

    def _failures(self) -> list[int]:
        """Aho-Corasick: the node of the longest beginning of a name that a node's text ends with, but for itself."""
        fail = [0] * len(self._names.children)
        todo = list(self._names.children[0].values())
        for node in todo:
            self._names.ends[node] |= self._names.ends[fail[node]]
            for char, child in self._names.children[node].items():
                fail[child] = self._name(fail[node], char, fail)
                todo.append(child)
        return fail

    def _name(self, node: int, char: str, fail: list[int]) -> int:
        children = self._names.children
        while node and char not in children[node]:
            node = fail[node]
        return children[node].get(char, 0)

    def _completes(self, figure: int, name: int) -> bool:
        """Whether a figure that has begun can be brought to its end without writing a strange name."""
        if self._figures.ends[figure]:
            return True
        key = (figure, name)
        if key not in self._ends:
            self._ends[key] = any(
                not self._names.ends[after] and self._completes(child, after)
                for char, child in self._figures.children[figure].items()
                for after in [self._name(name, char, self._fail)]
            )
        return self._ends[key]

    def _next(self, place: Place, char: str) -> Place | None:
        """The place after a character, None where it is refused."""
        figure, joint, name = place
        name = self._name(name, char, self._fail)
        code = ord(char)
        if self._names.ends[name] or not contains(self._alphabet, code):
            return None
        children = self._figures.children
        if contains(self._core, code) or (figure and not joint and contains(self._inside, code)):
            before = children[figure].get(joint) if joint else figure
            after = None if before is None else children[before].get(char)
            return (after, "", name) if after is not None and self._completes(after, name) else None
        if figure and not joint and char in _JOINTS:
            after = children[figure].get(char)
            goes_on = self._figures.ends[figure] or (after is not None and self._completes(after, name))
            return (figure, char, name) if goes_on else None
        return (0, "", name) if not figure or self._figures.ends[figure] else None

    def _begun(self, place: Place, low: int, high: int) -> Place | None:
        """The place to remember while a character between two code points is being spelled, None where none is allowed."""
        figure, joint, _ = place
        ended = not figure or self._figures.ends[figure]
        base = (self._after if figure and not joint else self._free) if ended else ()
        if not meets(self._special, low, high):
            return _OUTSIDE if meets(base, low, high) else None
        node = self._figures.children[figure].get(joint, 0) if joint else figure
        wanted = {*self._figures.children[node], *_JOINTS}
        if any(low <= ord(char) <= high and self._next(place, char) for char in wanted):
            return place
        span = intersect(base, ((low, high),))
        return place if any(self._next(place, chr(code)) for first, last in span for code in range(first, last + 1)) else None

    def row(self, state: object) -> list[Where | None]:
        place, prefix = cast(Where, state)
        found: list[Where | None] = [None] * 256
        for byte in range(0x80, 0xC0) if prefix else (*range(0x80), *range(0xC2, 0xF5)):
            spelling = prefix + bytes([byte])
            low, high, complete = _span(spelling)
            if low > high:
                continue
            after = self._next(place, chr(low)) if complete else self._begun(place, low, high)
            if after is not None:
                found[byte] = (after, b"" if complete else spelling)
        return found

    def accepting(self, state: object) -> bool:
        (figure, _, _), prefix = cast(Where, state)
        return not prefix and (not figure or self._figures.ends[figure])


class _Trie:
    """Texts by their characters: node 0 is the empty text; `ends` marks the nodes of whole texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.children: list[dict[str, int]] = [{}]
        self.ends = [False]
        for text in texts:
            node = 0
            for char in text:
                if char not in self.children[node]:
                    self.children[node][char] = len(self.children)
                    self.children.append({})
                    self.ends.append(False)
                node = self.children[node][char]
            self.ends[node] = True


def _span(spelling: bytes) -> tuple[int, int, bool]:
    """The code points whose UTF-8 begins with these bytes (first > last: none), and whether that is all of it."""
    lead = spelling[0]
    length = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    value = lead if length == 1 else lead & (0x7F >> length)
    for byte in spelling[1:]:
        value = value << 6 | byte & 0x3F
    left = 6 * (length - len(spelling))
    low, high = value << left, (value + 1 << left) - 1
    low, high = max(low, (0, 0x80, 0x800, 0x10000)[length - 1]), min(high, 0x10FFFF)
    if left == 0 and 0xD800 <= low <= 0xDFFF:
        return 1, 0, True
    return low, high, left == 0
