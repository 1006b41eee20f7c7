"""What a person does with the form beside the conversation: fields that are edited, and the button that submits. Heard like a message,
so that the same step decides."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import date

from govlm.hall.dialogue.book import SENSITIVE, fields_of, same
from govlm.hall.dialogue.hearing import Heard, Said
from govlm.hall.dialogue.shelf import Shelf
from govlm.hall.dialogue.state import State
from govlm.hall.forms.checks import check
from govlm.hall.forms.fill import fill
from govlm.hall.forms.rules import Problem, conflicts
from govlm.hall.forms.schema import Form, FormField
from govlm.hall.values import normal

__all__ = ["confirmed", "corrected", "written"]

_CONFIRM = "确认提交"
_CODES = ("identity_card", "credit_code", "bank_card", "mobile", "email")  # kinds that have one way to be written


def confirmed(state: State, shelf: Shelf, today: date, held: Mapping[str, str]) -> Heard:
    """The outspoken yes. LookupError: nothing waits for it."""
    if state.asking != "confirm":
        raise LookupError("the conversation does not wait for a confirmation")
    return Heard(_CONFIRM, "submit", True)


def corrected(values: Mapping[str, str], state: State, shelf: Shelf, today: date, held: Mapping[str, str]) -> Heard:
    """Values that were written into fields. LookupError: no form is filled; ValueError names an unknown field."""
    procedure = shelf.procedure(state.top.procedure) if state.top else None
    if state.top is None or procedure is None:
        raise LookupError("the conversation fills no form")
    fields = fields_of(procedure, shelf)
    if unknown := [name for name in values if name not in fields]:
        raise ValueError(unknown[0])
    good: dict[str, str] = {}
    problems: list[Problem] = []
    cleared: list[str] = []
    for name, given in values.items():
        field = fields[name]
        if not given.strip() and not field.required:
            cleared.append(name)
            continue
        value, problem = written(field, given, today)
        if problem:
            problems.append(Problem((name,), field.kind, problem))
        else:
            good[name] = value
    shared = {fields[name].share for name in good} - {""}
    now = {**{name: value for name, value in state.top.values.items() if name not in cleared}, **held, **good}
    for entry in procedure.of_kind("form"):
        form = shelf.form(entry.item)
        if form is not None:
            found = conflicts(form, same(form, now, fields), shelf.item(entry.item), today)
            problems += [rule for rule in found if any(n in good or form.fields[n].share in shared for n in rule.fields)]
    withheld = tuple(name for name in good if fields[name].kind in SENSITIVE)
    labels = "、".join(fields[name].label for name in values)
    said = Said(good, tuple(problems), withheld, tuple(name for name in cleared if name in state.top.values))
    return Heard(f"（在表格里填写：{labels}）", "correct", True, said=said)


def written(field: FormField, given: str, today: date) -> tuple[str, str]:
    """(the value as it is kept, "") or ("", what is wrong with it), of what was written into a field: as it stands, or as it would be
    understood in answer to the field's question (2,100元, 三口人)."""
    value = given.encode("utf-8", "replace").decode("utf-8").replace("\x00", "").strip()
    if field.kind in _CODES and value:
        with contextlib.suppress(ValueError):  # no value of its kind: check says why
            value = normal(field.kind, value) or value
    problem = check(field, value, today)
    if not problem:
        return value, ""
    form = Form(field.name, "", "", {field.name: field}, (), ())
    filled = fill(form, value, asking=field.name, today=today)
    if not filled.problems and field.name in filled.fields:
        return filled.fields[field.name].value, ""
    return "", problem
