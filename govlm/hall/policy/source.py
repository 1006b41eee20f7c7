"""The sentences of a policy text with their places: the units that summaries and interpretations are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from govlm.hall.catalogue.passages import top
from govlm.hall.catalogue.records import Document, Item

__all__ = ["CLAUSE_END", "OneDocument", "Sentence", "clause_prefix", "list_from", "opens_list", "sentences", "source"]

_MARK = re.compile(r"[。！？!?；;]+[”’」』）)\"]*|\n")
_OPEN, _CLOSE = "（(《【[“「", "）)》】]”」"
_LONGEST = 600  # characters of a sentence: what has no full stop is cut at the ends of clauses
_ITEM = re.compile(r"(?:[（(][一二三四五六七八九十0-9]{1,3}[）)]|[0-9]{1,2}[.、．]|[①-⑳]|[-•●])")
CLAUSE_END = "，,、；;：:。！？!?"


@dataclass(frozen=True)
class Sentence:
    """source[start:end], with the sign that ends it. passage: the id of the article or paragraph that holds it; "" in a bare
    text. heading: of the chapter that the passage stands in. whole: False when it was cut at the border of a clause.
    """

    text: str
    start: int
    end: int
    passage: str = ""
    heading: str = ""
    whole: bool = True


class OneDocument:
    """A catalogue of one document, to check citations against."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def item(self, code: str, /) -> Item | None:
        return None

    def document(self, code: str, /) -> Document | None:
        return self._document if code == self._document.code else None


def source(document: Document | str) -> Document:
    """The document; a bare text becomes one without passages. TypeError for anything else."""
    if isinstance(document, Document):
        return document
    if isinstance(document, str):
        return Document("", "", document)
    raise TypeError(f"a text or a Document is expected, not {type(document).__name__}")


def sentences(document: Document | str) -> list[Sentence]:
    """All sentences in order; lines end one, so do 。！？；, but not inside brackets on the same line. Where a document has
    passages, a sentence lies within one of those that tile it; what stands in none (headings) is left out.
    """
    of = source(document)
    if not of.passages:
        return [Sentence(of.text[s:e], s, e) for s, e in _spans(of.text, 0, len(of.text))]
    return [
        Sentence(of.text[s:e], s, e, entry.id, entry.heading)
        for entry in top(of.passages)
        for s, e in _spans(of.text, entry.start, entry.end)
    ]


def _spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    begin = start
    for match in _MARK.finditer(text, start, end):
        if match.group() != "\n" and _inside_brackets(text, begin, match.start()):
            continue
        _add(text, begin, match.end(), found)
        begin = match.end()
    _add(text, begin, end, found)
    return found


def _inside_brackets(text: str, start: int, at: int) -> bool:
    """Whether a bracket of this sentence is still open, and closes soon on the line: one that never closes holds nothing."""
    depth = 0
    for char in text[max(start, at - 300) : at]:
        depth += (char in _OPEN) - (char in _CLOSE)
    if depth <= 0:
        return False
    line = text.find("\n", at)
    rest = text[at : min(at + 120, line if line >= 0 else len(text))]
    return any(char in _CLOSE for char in rest)


def _add(text: str, start: int, end: int, found: list[tuple[int, int]]) -> None:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    while end - start > _LONGEST:
        stop = _prefix(text, start, start + _LONGEST)
        if not stop:
            break
        found.append((start, stop))
        start = stop
        while start < end and text[start].isspace():
            start += 1
    if start < end and any(char.isalnum() for char in text[start:end]):
        found.append((start, end))


def _prefix(text: str, start: int, limit: int) -> int:
    """The last end of a clause in text[start:limit], or else the last white space, not inside a number (1,000); 0: none."""
    for at in range(min(limit, len(text)), start + 1, -1):
        if text[at - 1] in CLAUSE_END and not (text[at : at + 1].isdigit() and text[at - 2].isdigit()):
            return at
    for at in range(min(limit, len(text) - 1), start + 1, -1):
        if text[at].isspace() and not text[at - 1].isspace():
            return at
    return 0


def clause_prefix(sentence: Sentence, length: int) -> Sentence | None:
    """As many whole clauses of the sentence as `length` characters hold; None when not even one."""
    if len(sentence.text) <= length:
        return sentence
    stop = _prefix(sentence.text, 0, length)
    if not stop or not any(char.isalnum() for char in sentence.text[:stop]):
        return None
    return replace(sentence, text=sentence.text[:stop], end=sentence.start + stop, whole=False)


def opens_list(sentence: Sentence) -> bool:
    """Whether it says nothing without what follows: 符合下列条件：."""
    return sentence.text.endswith(("：", ":"))


def list_from(text: str, units: Sequence[Sentence], at: int) -> int:
    """units[at:found] are the sentence that opens a list and its items, all in one passage: numbered ones, what stands on a line
    with one, and what ends with a semicolon and the one after; at + 1 where there is no list."""
    found = at + 1
    for unit in units[at + 1 :]:
        before = units[found - 1]
        same_line = found > at + 1 and "\n" not in text[before.end : unit.start]
        if unit.passage != units[at].passage or not (_ITEM.match(unit.text) or same_line or before.text[-1] in "；;"):
            break
        found += 1
    return found
