"""Fills a form from what a citizen says: values, whose they are, and what is wrong with them. No model, nothing guessed.

A value belongs to the field whose cue stands nearest (入院, 出院), of the person who was named last (我妈叫…), else to the field that
was asked. What could belong to two fields is a problem, as is what fails its check; of two values for one field the later one stands
only behind a correcting word (不对，是…).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from govlm.hall.catalogue.records import Item
from govlm.hall.forms import bare
from govlm.hall.forms.assignment import Assignment, Claim
from govlm.hall.forms.candidates import candidates
from govlm.hall.forms.marks import Candidate, cues, narrow
from govlm.hall.forms.references import same_place
from govlm.hall.forms.rules import Problem, conflicts
from govlm.hall.forms.schema import CHECKED, Form, FormField
from govlm.hall.forms.settlement import FilledField, settle

__all__ = ["Filled", "FilledField", "Problem", "fill"]

LIMIT = 20_000  # characters that are read of a message


@dataclass
class Filled:
    """What a message fills. A value that fails its check is among the problems alone; one in a conflict stands in both."""

    fields: dict[str, FilledField] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def fill(
    form: Form,
    text: str,
    *,
    asking: str | None = None,
    known: Mapping[str, str] = {},  # never written to
    today: date | None = None,
    item: Item | None = None,
    behalf: str = "",
) -> Filled:
    """What the text says for the form. asking: the field that was asked, which bare answers go to. known: what earlier turns filled.

    behalf: the word for whom the form is filled (妈): values that are said to be of that person are the applicant's. today: what 去年 and ages are counted from (default: the day it is). ValueError: `asking` is no field of the form. Never raises for
    a text; what lies beyond 20,000 characters is not read.
    """
    today = today or date.today()
    if asking is not None and asking not in form.fields:
        raise ValueError(f"form {form.id}: asking names the unknown field {asking!r}")
    asked = form.fields[asking] if asking else None
    raw = text[:LIMIT]
    plain = narrow(raw)
    result = Filled()
    matched = cues(form, plain)
    found = candidates(form, plain, matched, today, asked)
    claims, ambiguous = Assignment(form, plain, matched, found, asked, known, behalf).run()
    result.problems += ambiguous
    if asked and asked.name not in claims:
        answered = _bare(asked, plain, claims)
        for answer in (claim.candidate for listed in answered.values() for claim in listed):  # 莫得: no, and nobody's name
            claims = {
                name: left
                for name, listed in claims.items()
                if (left := [c for c in listed if c.level or not _overlap(c.candidate, answer)])
            }
        claims |= answered
    for name in form.fields:
        if name in claims:
            settled = settle(form.fields[name], claims[name], raw, plain, today, form)
            if isinstance(settled, FilledField):
                result.fields[name] = settled
            elif settled is not None:
                result.problems.append(settled)
    pointed = same_place(form, plain, asked, result.fields, known, matched)
    result.fields |= pointed
    result.problems = [p for p in result.problems if not pointed.keys() & set(p.fields)]
    new = {name: found_.value for name, found_ in result.fields.items()}
    for problem in conflicts(form, {**known, **new}, item, today):
        if any(name in new for name in problem.fields):
            place = next(result.fields[name] for name in problem.fields if name in new)
            result.problems.append(problem._replace(value=place.text, start=place.start, end=place.end))
    return result


def _overlap(one: Candidate, other: Candidate) -> bool:
    return one.start < other.end and other.start < one.end


def _bare(asked: FormField, plain: str, claims: Mapping[str, list[Claim]]) -> dict[str, list[Claim]]:
    found = bare.answer(asked, plain)
    if found is None or (claims and asked.kind in ("organisation", "address")):
        return {}
    value, start, end = found
    if asked.kind == "text" and any(
        claim.level > 3 or claim.candidate.kind in CHECKED for listed in claims.values() for claim in listed
    ):
        return {}  # it is said of something else
    return {asked.name: [Claim(Candidate(asked.kind, start, end, value), asked.name, 3)]}
