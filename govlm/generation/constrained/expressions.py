"""Regular expressions as trees, and the text that people write them in.

The language is the part of Python's `re` that a finite automaton decides; an expression stands for the whole text (fullmatch).
What is left out raises by name: look-around, back references, word boundaries, conditionals, flags.
A class never holds more than Python's: \\d is 0-9, \\w is ASCII letters, digits, _ and Chinese characters, \\s is ASCII white
space, but \\D, \\W, \\S and [^…] leave out what Python's \\d, \\w, \\s hold of all Unicode.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from govlm.generation.constrained.characters import EVERY, Ranges, complement, intersect, spelled, union, unlike

__all__ = ["Call", "Chars", "Choice", "Expression", "Machine", "Members", "Repeat", "Sequence", "literal", "parse", "rewrite"]

MAX_REPEAT = 1000


class Expression:
    """A node of the tree."""


@dataclass(frozen=True)
class Chars(Expression):
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True)
class Sequence(Expression):
    """One after the other; of nothing: the empty text."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Choice(Expression):
    """One of them."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Repeat(Expression):
    """low to high times, high None = any number."""

    part: Expression
    low: int
    high: int | None


@dataclass(frozen=True)
class Edge(Expression):
    """^ or $: the parser leaves it only where it says something."""

    sign: str


@dataclass(frozen=True)
class Members(Expression):
    """Parts in this order with a separator between those that are there; (required, part)."""

    parts: tuple[tuple[bool, Expression], ...]
    separator: Expression


@dataclass(frozen=True)
class Call(Expression):
    """What another rule of a grammar stands for."""

    rule: str


@dataclass(frozen=True)
class Machine(Expression):
    """What a finished automaton accepts."""

    automaton: Any


EMPTY = Sequence(())
ANY = Chars(EVERY)
_DIGIT: Ranges = ((0x30, 0x39),)
_HAN: Ranges = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFA6D), (0x20000, 0x2A6DF))
_WORD = union(_DIGIT, ((0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)), _HAN)
_SPACE = spelled(" \t\n\r\f\v")
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "a": 7, "0": 0}


def literal(text: str) -> Expression:
    """The text itself."""
    return Sequence(tuple(Chars(((ord(char), ord(char)),)) for char in text))


def rewrite(node: Expression, leaf: Callable[[Chars], Expression]) -> Expression:
    """The tree with every set of characters replaced."""
    if isinstance(node, Chars):
        return leaf(node)
    if isinstance(node, Sequence):
        return Sequence(tuple(rewrite(part, leaf) for part in node.parts))
    if isinstance(node, Choice):
        return Choice(tuple(rewrite(part, leaf) for part in node.parts))
    if isinstance(node, Repeat):
        return Repeat(rewrite(node.part, leaf), node.low, node.high)
    return node


def parse(pattern: str, search: bool = False) -> Expression:
    """A regular expression -> its tree. ValueError that names the place for what is wrong or left out.

    search: the text need only contain a match (re.search), but for ^ and $ where they are the first or last thing of an
    alternative. Else the whole text matches, and ^ and $ in these places say nothing.
    """
    return _Parser(pattern, search).whole()


class _Parser:
    def __init__(self, pattern: str, search: bool) -> None:
        self.pattern = pattern
        self.search = search
        self.at = 0
        self.depth = 0

    def refuse(self, what: str, at: int | None = None) -> NoReturn:
        raise ValueError(f"regular expression {self.pattern!r}, place {self.at if at is None else at}: {what}")

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        char = self.peek()
        if not char:
            self.refuse("ends in the middle")
        self.at += 1
        return char

    def whole(self) -> Expression:
        parts = self.alternatives()
        if self.peek():
            self.refuse("unbalanced )")
        return Choice(tuple(self.anchored(part) for part in parts))

    def anchored(self, parts: list[Expression]) -> Expression:
        """One top alternative, its ^ and $ resolved."""
        left = bool(parts) and parts[0] == Edge("^")
        right = bool(parts) and parts[-1] == Edge("$")
        inner = parts[left : len(parts) - right]
        if any(self.has_edge(part) for part in inner):
            self.refuse("^ and $ are supported at the start and the end of a top alternative only")
        if self.search:
            rest = Repeat(ANY, 0, None)
            inner = [*([] if left else [rest]), *inner, *([] if right else [rest])]
        return Sequence(tuple(inner))

    def has_edge(self, node: Expression) -> bool:
        if isinstance(node, Sequence | Choice):
            return any(self.has_edge(part) for part in node.parts)
        return isinstance(node, Edge) or (isinstance(node, Repeat) and self.has_edge(node.part))

    def alternatives(self) -> list[list[Expression]]:
        found: list[list[Expression]] = [[]]
        while self.peek() not in ("", ")"):
            if self.peek() == "|":
                self.at += 1
                found.append([])
            else:
                found[-1].append(self.repeated())
        return found

    def repeated(self) -> Expression:
        node = self.atom()
        bounds = self.bounds()
        if bounds is None:
            return node
        if isinstance(node, Edge):
            self.refuse("nothing to repeat")
        if self.peek() == "?":
            self.at += 1  # lazy: the same texts
        elif self.peek() == "+":
            self.refuse("possessive quantifiers are not supported")
        if self.bounds() is not None:
            self.refuse("multiple repeat")
        return Repeat(node, *bounds)

    def bounds(self) -> tuple[int, int | None] | None:
        char = self.peek()
        if char and char in "*+?":
            self.at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        match = re.compile(r"\{(\d*)(,?)(\d*)\}", re.ASCII).match(self.pattern, self.at)
        if match is None or match[0] in ("{}", "{,}"):
            return None  # a brace that is itself, as in Python
        if len(match[1]) > 6 or len(match[3]) > 6:
            self.refuse(f"repeats more than {MAX_REPEAT} times")
        low = int(match[1] or 0)
        high = low if not match[2] else int(match[3]) if match[3] else None
        if max(low, high or 0) > MAX_REPEAT:
            self.refuse(f"repeats more than {MAX_REPEAT} times")
        if high is not None and high < low:
            self.refuse("the least number of repeats is greater than the most")
        self.at = match.end()
        return low, high

    def atom(self) -> Expression:
        at = self.at
        char = self.take()
        if char == "(":
            return self.group(at)
        if char == "[":
            return Chars(self.bracket(at))
        if char == ".":
            return Chars(complement(spelled("\n")))
        if char in "^$":
            return Edge(char)
        if char in "*+?":
            self.refuse("nothing to repeat", at)
        if char == "\\":
            return Chars(self.escape(at, inside=False, negated=False))
        return Chars(spelled(char))

    def group(self, at: int) -> Expression:
        if self.peek() == "?":
            rest = self.pattern[self.at :]
            names = {"?=": "look-ahead", "?!": "look-ahead", "?<=": "look-behind", "?<!": "look-behind", "?>": "atomic groups"}
            names |= {"?P=": "back references", "?(": "conditionals", "?#": "comments"}
            for sign, name in names.items():
                if rest.startswith(sign):
                    self.refuse(f"{name}: {'are' if name.endswith('s') else 'is'} not supported", at)
            named = re.match(r"\?:|\?P?<[^\W\d]\w*>", rest)  # (?<name>…): JSON schemas are written in ECMAScript's
            if named is None:
                self.refuse("flags and other extensions are not supported", at)
            self.at += named.end()
        self.depth += 1
        if self.depth > 50:
            self.refuse("more than 50 groups inside each other", at)
        parts = self.alternatives()
        self.depth -= 1
        if self.peek() != ")":
            self.refuse("unbalanced (", at)
        self.at += 1
        return Choice(tuple(Sequence(tuple(part)) for part in parts))

    def escape(self, at: int, inside: bool, negated: bool) -> Ranges:
        """After a backslash: the set; negated: the set that [^…] leaves out for it."""
        char = self.take()
        if char in "dwsDWS":
            small = char.islower() != negated
            ranges = _CLASSES[char.lower()] if small else unlike("\\" + char.upper())
            return ranges if not negated else complement(ranges)
        if char in "xuU":
            digits = {"x": 2, "u": 4, "U": 8}[char]
            text = self.pattern[self.at : self.at + digits]
            if len(text) < digits or not re.fullmatch("[0-9A-Fa-f]+", text) or int(text, 16) > 0x10FFFF:
                self.refuse(f"\\{char} wants {digits} hexadecimal digits of a character", at)
            self.at += digits
            code = int(text, 16)
        elif char == "b" and inside:
            code = 8
        elif char in _CONTROLS and not (char == "0" and self.peek().isdigit()):
            code = _CONTROLS[char]
        elif char.isdigit():
            self.refuse("back references and octal escapes are not supported", at)
        elif char in "bB":
            self.refuse("word boundaries are not supported", at)
        elif char.isascii() and char.isalpha():
            self.refuse(f"\\{char} is not supported", at)
        else:
            code = ord(char)
        return ((code, code),)

    def bracket(self, at: int) -> Ranges:
        """After a [."""
        negated = self.peek() == "^"
        self.at += negated
        found: list[tuple[int, int]] = []
        first = True
        while first or self.peek() != "]":
            first = False
            if not self.peek():
                self.refuse("unbalanced [", at)
            ranges = self.member(negated)
            if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                end = self.member(negated)
                if not _one(ranges) or not _one(end) or end[0][0] < ranges[0][0]:
                    self.refuse("bad range in [ ]", at)
                ranges = ((ranges[0][0], end[0][0]),)
            found += ranges
        self.at += 1
        return complement(union(found)) if negated else intersect(union(found), EVERY)

    def member(self, negated: bool) -> Ranges:
        at = self.at
        char = self.take()
        if char == "\\":
            return self.escape(at, inside=True, negated=negated)
        return ((ord(char), ord(char)),)


def _one(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]
