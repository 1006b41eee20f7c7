"""Which of several policy documents goes before which, and what the local one says otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

from govlm.hall.answers import words
from govlm.hall.answers.citations import Citation, Part, Sentence, cite, cite_span, numbers, version
from govlm.hall.answers.spans import layout
from govlm.hall.catalogue.records import Document, Item

__all__ = ["Difference", "applies", "compare", "differences", "in_force", "ordered", "status"]

_LEVELS = {"村级": 0, "镇级": 1, "乡级": 1, "街道级": 1, "县级": 2, "区级": 2, "市级": 3, "省级": 4, "国家级": 5}


def in_force(record: Document | Item, today: date) -> bool:
    """Whether today lies between its dates; a date that is not known does not count."""
    return status(record, today) == ""


def status(record: Document | Item, today: date) -> str:
    """ "" in force, "expired", or "not_yet" (keys of `words.REFUSALS`)."""
    if record.valid_to is not None and record.valid_to < today:
        return "expired"
    return "not_yet" if record.valid_from is not None and record.valid_from > today else ""


def applies(record: Document | Item, region: str) -> bool:
    """Whether a record is of the region or of one that contains it: 44 holds in 440106, 440106 does not hold in 44. "" = everywhere."""
    return _prefix(region).startswith(_prefix(record.region))


def _prefix(region: str) -> str:
    """A GB/T 2260 code without the pairs of zeros at its end."""
    while region.endswith("00"):
        region = region[:-2]
    return region


def ordered(documents: Iterable[Document], today: date, region: str = "") -> list[Document]:
    """Those in force, and of the region where one is given: the most local first, then the newest; else as they came."""
    kept = [entry for entry in documents if in_force(entry, today) and (not region or applies(entry, region))]

    def rank(entry: Document) -> tuple[int, int, int]:
        since = entry.valid_from or entry.issued
        return -len(_prefix(entry.region)), _LEVELS.get(entry.level, 5), -(since.toordinal() if since else 0)

    return sorted(kept, key=rank)


class Difference(NamedTuple):
    """A clause of one text with numbers or dates that the other has not: [start, end) in that text."""

    start: int
    end: int
    numbers: tuple[str, ...]


def differences(text: str, other: str) -> list[Difference]:
    """The clauses of `text` with a number or date that `other` does not have."""
    known = set(numbers(other))
    of = layout(text)
    found = []
    for start, end in zip(of.starts.tolist(), of.ends.tolist(), strict=True):
        new = tuple(number for number in numbers(text[start:end]) if number not in known)
        if new:
            found.append(Difference(start, end, new))
    return found


def compare(local: tuple[Document, str], higher: tuple[Document, str]) -> Part:
    """What the passage of the local document says, what the higher one says, and the clauses in which their numbers and dates differ;
    each quoted. A passage is (document, id). ValueError for an id that is none.
    """
    sentences = []
    quoted = []
    for (document, name), opening in ((local, words.LOCAL_FIRST), (higher, words.HIGHER)):
        entry = next((entry for entry in document.passages if entry.id == name), None)
        if entry is None:
            raise ValueError(f"{document.code}: there is no passage {name!r}")
        known = version(document)
        quote = cite_span(document, name, entry.start, entry.end, known)
        quoted.append((document, quote, known))
        sentences.append(Sentence((opening, words.FROM, cite(document, "title", known), words.FROM_END, words.SAYS, quote)))
    (mine, here, my_version), (theirs, there, their_version) = quoted
    ours, others = differences(here.text, there.text), differences(there.text, here.text)
    if ours or others:
        pieces: list[str | Citation] = [words.DIFFERS]
        pieces += _clauses(mine, here, ours, my_version) or [words.NOTHING_THERE]
        pieces.append(words.DIFFERS_HIGHER)
        pieces += _clauses(theirs, there, others, their_version) or [words.NOTHING_THERE]
        sentences.append(Sentence(tuple(pieces)))
    return Part("difference", words.TITLES["difference"], tuple(sentences))


def _clauses(document: Document, quote: Citation, found: list[Difference], of_version: str) -> list[str | Citation]:
    pieces: list[str | Citation] = []
    for one in found:
        if pieces:
            pieces.append(words.COMMA)
        pieces.append(cite_span(document, quote.passage, quote.start + one.start, quote.start + one.end, of_version))
    return pieces
