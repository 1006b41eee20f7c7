"""One value for a field out of what claims it, exact enough and checked; or what is wrong, as one question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from govlm.hall.forms.assignment import CORRECTS, Claim
from govlm.hall.forms.checks import check
from govlm.hall.forms.marks import Candidate
from govlm.hall.forms.rules import Problem
from govlm.hall.forms.schema import CHECKED, Form, FormField

__all__ = ["FilledField", "settle"]


class FilledField(NamedTuple):
    """value: normalised; text[start:end] of the message is what was said; confidence: 0 to 1, by how it was found."""

    value: str
    text: str
    start: int
    end: int
    confidence: float


_CONFIDENCE = {5: 0.95, 4: 0.95, 3: 0.9, 2: 0.85, 1: 0.75, 0: 0.7}
_MONTHLY = re.compile("每个?月|一个月|月收入|月租")
_OTHER_PERIOD = "[一每全半]年|年(?:收入|租金)|[一每]个?季度?|[两三四五六]个月|[一每][天日周]|一?个?星期"
_PERIOD = re.compile(f"(?:{_OTHER_PERIOD})[^，,。；;！!？?\n月]{{0,8}}$")  # 房租一年两万四
_PERIOD_AFTER = re.compile(r"\s?(?:元|块钱?)?\s?[/一每](?:年|季|[天日周])")


def settle(
    each: FormField, claims: Sequence[Claim], raw: str, plain: str, today: date, form: Form
) -> FilledField | Problem | None:
    """One value for a field, checked; or a problem; None where all that was said of it is denied."""
    alive = [claim for claim in claims if claim.candidate.state != "denied"]
    if not alive:
        return None
    denied = {claim.candidate.value for claim in claims if claim.candidate.state == "denied"}
    alive = [claim for claim in alive if claim.candidate.value not in denied] or alive  # 两万，不是两万，是两万二
    first = CORRECTS.search(plain)
    strongest = max(claim.level for claim in alive)
    alive = [
        claim
        for claim in alive
        if claim.level >= min(strongest, 3) or each.kind in CHECKED or (first and first.end() <= claim.candidate.start)
    ]
    chosen = alive[0]
    for claim in alive[1:]:
        here, there = chosen.candidate, claim.candidate
        if there.value == here.value or there.start < here.end:
            if there.end - there.start > here.end - here.start and there.start <= here.start:
                chosen = claim
            continue
        if CORRECTS.search(plain, here.end, there.start) or CORRECTS.match(plain, there.end):
            chosen = claim
        elif CORRECTS.search(plain, max(0, here.start - 3), here.end):
            continue
        else:
            text = f"{each.label}说了两个不同的内容，请问以哪一个为准？"
            return Problem((each.name,), "twice", text, raw[there.start : there.end], there.start, there.end)
    entry = chosen.candidate
    said = raw[entry.start : entry.end]
    value, problem = _value(each, entry, form, plain)
    message: str | None = problem or check(each, value, today)
    if message:
        kind = "vague" if problem else each.kind
        return Problem((each.name,), kind, message, said, entry.start, entry.end)
    confidence = 0.6 if entry.state == "about" else 0.99 if each.kind in CHECKED else _CONFIDENCE[chosen.level]
    return FilledField(value, said, entry.start, entry.end, confidence)


def _value(each: FormField, entry: Candidate, form: Form, plain: str) -> tuple[str, str]:
    """(value, what is not exact enough about it)."""
    if each.kind == "date":
        month = each.precision == "month"
        wanted = "年和月" if month else "年、月、日"
        if entry.state == "lunar":
            return "", f"{each.label}说的像是农历，请给出公历的{wanted}。"
        born = any(rule.kind == "birth_matches_id" and rule.fields[0] == each.name for rule in form.rules)
        if entry.state == "vague" or (entry.state == "month" and not month) or (entry.state == "yearless" and born):
            return "", f"{each.label}还不够具体，请给出{wanted}。"
        return entry.value[:7] if month else entry.value, ""
    if each.kind == "amount" and _MONTHLY.search(each.label + each.ask):
        before, after = plain[max(0, entry.start - 12) : entry.start], plain[entry.end : entry.end + 6]
        if _PERIOD.search(before) or _PERIOD_AFTER.match(after):
            return "", f"{each.label}要的是一个月的数，请告诉我一个月是多少元。"
    if entry.state == "vague":
        return "", f"{each.label}需要准确的数字，请告诉我具体是多少。"
    return entry.value, ""
