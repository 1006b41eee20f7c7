"""An answer as it is given: checked, then written out with numbered citations; or a refusal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from govlm.hall.answers import words
from govlm.hall.answers.citations import Catalogue, Citation, CitationError, Part, Resolver, check
from govlm.hall.catalogue.records import Document

__all__ = ["Answer", "checked", "outlined", "refuse"]

_LOG = logging.getLogger(__name__)
_BULLETS = {"materials": "□ ", "item": "", "phrased": "", "premise": "", "policy": "", "difference": ""}  # others: "· "


@dataclass(frozen=True)
class Answer:
    """text: what is read. parts: the same in pieces. citations: [n] in the text is citations[n - 1]. A refusal has no parts and no
    citations; reason: a key of `words.REFUSALS`, else "".
    """

    text: str
    parts: tuple[Part, ...]
    citations: tuple[Citation, ...]
    refused: bool
    reason: str = ""


def refuse(reason: str) -> Answer:
    """An honest sentence and a way on. KeyError for a reason that is none of `words.REFUSALS`."""
    return Answer(f"{words.REFUSALS[reason]}{words.WAY_ON}", (), (), True, reason)


def checked(parts: Sequence[Part], catalogue: Catalogue) -> Answer:
    """The answer of these parts, if every sentence of them stands in the catalogue as it is now; else a refusal, and a line in the
    log. The only way to an answer that is not refused.
    """
    resolver = Resolver(catalogue)
    try:
        if not parts:
            raise CitationError("there is nothing to say")
        check(parts, resolver)
    except CitationError as error:
        _LOG.error("an answer was held back: %s", error)
        return refuse("unchecked")
    citations = tuple(dict.fromkeys(c for part in parts for sentence in part.sentences for c in sentence.citations))
    return Answer(_written(parts, citations, resolver), tuple(parts), citations, False)


def outlined(answer: Answer) -> tuple[dict[str, Any], ...]:
    """Its parts as plain values: {"kind", "title", "lines": [{"text", "citations": [n]}]}; n as [n] in the answer's text."""
    number = {citation: i for i, citation in enumerate(answer.citations, 1)}
    return tuple(
        {
            "kind": part.kind,
            "title": part.title,
            "lines": [
                {"text": sentence.text, "citations": sorted({number[c] for c in sentence.citations})}
                for sentence in part.sentences
            ],
        }
        for part in answer.parts
    )


def _written(parts: Sequence[Part], citations: Sequence[Citation], resolver: Resolver) -> str:
    number = {citation: i for i, citation in enumerate(citations, 1)}
    blocks: list[str] = []
    for part in parts:
        lines = [] if part.kind == "item" else [f"【{part.title}】"]
        bullet = _BULLETS.get(part.kind, "· ")
        for sentence in part.sentences:
            lines.append(f"{bullet}{sentence.text} {_marks({number[c] for c in sentence.citations})}")
        blocks.append("\n".join(lines))
    blocks.append("\n".join(["【出处】", *_sources(citations, resolver)]))
    return "\n\n".join(blocks)


def _marks(numbers: set[int]) -> str:
    """[1], [3-5]: runs in one bracket."""
    ordered = sorted(numbers)
    runs = [list(run) for _, run in groupby(enumerate(ordered), lambda pair: pair[1] - pair[0])]
    return "".join(f"[{run[0][1]}]" if len(run) == 1 else f"[{run[0][1]}-{run[-1][1]}]" for run in runs)


def _sources(citations: Sequence[Citation], resolver: Resolver) -> list[str]:
    """One line for each record, or passage of a document, that is cited."""
    numbers: dict[tuple[str, str, str], set[int]] = {}
    for i, citation in enumerate(citations, 1):
        numbers.setdefault((citation.kind, citation.code, citation.passage), set()).add(i)
    lines = []
    for (kind, code, passage), marked in numbers.items():
        record, _ = resolver.record(kind, code)
        if isinstance(record, Document):
            lines.append(f"{_marks(marked)} 《{record.title}》{record.number}{passage and ' '}{passage}")
        else:
            lines.append(f"{_marks(marked)} 《{record.name}》办事指南")
    return lines
