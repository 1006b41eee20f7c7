"""Cases that hold what was put right: each curated answer is one, so that a later change of the catalogue shows where it breaks.

    govlm eval DATA/hall --cases DATA/regression        # DATA: the portal's folder

asks the hall alone; `run` asks it as the portal does, curated answers first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from govlm.hall.answers.compose import KINDS
from govlm.hall.catalogue.tables import replace_file
from govlm.hall.hall import Hall
from govlm.portal.curated import CuratedAnswer

__all__ = ["FILE", "Failed", "Outcome", "cases", "run", "write"]

FILE = Path("regression", "answers.jsonl")  # in the portal's folder


@dataclass(frozen=True)
class Failed:
    """A case that does not give what it should, for people."""

    text: str
    wanted: str
    found: str


@dataclass(frozen=True)
class Outcome:
    cases: int
    failed: tuple[Failed, ...]


def cases(answers: Iterable[CuratedAnswer]) -> list[dict[str, Any]]:
    """Rows of answers.jsonl (`govlm.hall.evaluation.cases`): one for each wording. curated: the answer's id, which `govlm eval` does
    not read."""
    rows = []
    for answer in answers:
        named = {c.kind: c.text for c in reversed(answer.citations) if c.field in ("name", "title")}
        asks = [kind for kind in KINDS if any(part.kind == kind for part in answer.parts)]
        row = {"item": named.get("item", ""), "document": named.get("document", ""), "asks": asks, "refused": False}
        rows += [{"text": text, **row, "kind": "curated", "curated": answer.id} for text in answer.wordings]
    return rows


def write(data: Path, answers: Iterable[CuratedAnswer]) -> None:
    """Makes the file what the answers are; none where there is no answer. CatalogueError: it cannot be written."""
    file, rows = data / FILE, cases(answers)
    if not rows:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())


def run(hall: Hall, data: Path, answers: Iterable[CuratedAnswer], today: date) -> Outcome:
    """Puts the cases of these answers to the hall. Those of an answer that is not given any more, because its records have changed, have
    failed, whatever the hall says of itself."""
    library, answers = hall.library, list(answers)
    standing = {answer.id for answer in answers if answer.now(library, today) is not None}
    from govlm.hall.evaluation import Cases, evaluate  # not at every start of the portal
    from govlm.hall.evaluation.cases import Case

    there: list[Case] = []
    failed: list[Failed] = []
    count = 0
    for count, row in enumerate(cases(answers), 1):
        if row["curated"] not in standing:
            failed.append(Failed(row["text"], row["item"] or row["document"], "引用的记录已变化或失效，这条回答已停用"))
        else:
            there.append(Case(count, row))
    if there:
        report = evaluate(hall, Cases((data / FILE).parent, {"answers": there}), ["answers"], today, resamples=1)
        failed += [Failed(entry.text, entry.wanted, entry.found) for entry in report.failures]
    return Outcome(count, tuple(failed))
