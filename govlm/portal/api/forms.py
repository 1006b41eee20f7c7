"""Forms: what they ask, what a text says for them, whether values may stand in them."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from govlm.hall.catalogue.records import Item
from govlm.hall.dialogue.edits import written
from govlm.hall.forms.rules import Problem, conflicts
from govlm.hall.forms.schema import Form
from govlm.hall.hall import UnknownForm
from govlm.portal.errors import PortalError
from govlm.portal.gate import attended
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import allow
from govlm.portal.views import ItemRef, ProblemView

__all__ = ["Values", "router"]

router = APIRouter(prefix="/v1/forms", tags=["forms"])
Id = Annotated[str, Path(max_length=200, description="of the form, or code or name of its item", examples=["dibao"])]
Values = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=2000)]],
    Field(max_length=200, description="field -> value", examples=[{"mobile": "13973112233"}]),
]


class FormFieldView(BaseModel):
    """when: asked only where another field has one of these values. minimum, maximum: of a number or a date, as text."""

    name: str
    label: str
    kind: str
    ask: str
    hint: str
    required: bool
    person: str
    options: list[str]
    precision: str
    minimum: str
    maximum: str
    longest: int
    when: dict[str, list[str]]


class FormView(BaseModel):
    id: str
    version: str
    title: str
    item: ItemRef
    fields: list[FormFieldView]


class FillRequest(BaseModel):
    """asking: the field that was asked, which bare answers go to. known: what is filled already."""

    text: str = Field(max_length=20_000, examples=["我叫张秀兰，家里三口人，手机13973112233"])
    asking: str = Field("", max_length=64)
    known: Values = {}


class FilledView(BaseModel):
    """value: as it is kept; text[start:end] of the message is what was said; confidence: 0 to 1."""

    value: str
    text: str
    start: int
    end: int
    confidence: float


class FillView(BaseModel):
    fields: dict[str, FilledView]
    problems: list[ProblemView]


class ValidateRequest(BaseModel):
    values: Values


class ValidateView(BaseModel):
    """values: those that may stand, as they are kept. missing: required fields without a value. complete: it could be submitted."""

    values: dict[str, str]
    problems: list[ProblemView]
    missing: list[str]
    complete: bool


def form_of(portal: Portal, id: str) -> tuple[Item, Form]:
    """PortalError "not_found": there is none."""
    try:
        return portal.hall.form(id)
    except UnknownForm:
        raise PortalError("not_found") from None


def known_fields(form: Form, values: dict[str, str], where: str) -> None:
    """PortalError "invalid" names the place of a field that the form does not have."""
    if any(name not in form.fields for name in values):
        raise PortalError("invalid", "表格里没有这一项。", fields=[where])


def problem_views(problems: list[Problem]) -> list[ProblemView]:
    return [ProblemView(fields=list(p.fields), kind=p.kind, message=p.message) for p in problems]


@router.get("/{id}", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def form(id: Id, portal: Here) -> FormView:
    """The fields of a form, in the order in which they are asked."""

    def read() -> FormView:
        item, found = form_of(portal, id)
        fields = [
            FormFieldView(
                name=field.name, label=field.label, kind=field.kind, ask=field.ask, hint=field.hint, required=field.required,
                person=field.person, options=list(field.enum), precision=field.precision,
                minimum="" if field.minimum is None else str(field.minimum),
                maximum="" if field.maximum is None else str(field.maximum), longest=field.longest,
                when={name: list(values) for name, values in dict(field.when).items()},
            )
            for field in found.fields.values()
        ]  # fmt: skip
        ref = ItemRef(code=item.code, name=item.name)
        return FormView(id=found.id, version=found.version, title=found.title, item=ref, fields=fields)

    return await portal.gate.run(read)


@router.post("/{id}/fill", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def fill(id: Id, wanted: FillRequest, request: Request, portal: Here) -> FillView:
    """What a text says for the form, with places. Nothing is kept."""

    def read() -> FillView:
        _, found = form_of(portal, id)
        known_fields(found, wanted.known, "known")
        known_fields(found, {wanted.asking: ""} if wanted.asking else {}, "asking")
        filled = portal.hall.fill(id, wanted.text, asking=wanted.asking or None, known=wanted.known)
        fields = {name: FilledView(**entry._asdict()) for name, entry in filled.fields.items()}
        return FillView(fields=fields, problems=problem_views(filled.problems))

    return await attended(request, portal.gate.run(read))


@router.post("/{id}/validate", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def validate(id: Id, wanted: ValidateRequest, request: Request, portal: Here) -> ValidateView:
    """Whether values may stand in the form, alone and together. Nothing is kept."""

    def read() -> ValidateView:
        item, found = form_of(portal, id)
        known_fields(found, wanted.values, "values")
        today = date.today()
        good: dict[str, str] = {}
        problems: list[Problem] = []
        for name, given in wanted.values.items():
            if not given.strip():
                continue
            value, wrong = written(found.fields[name], given, today)
            if wrong:
                problems.append(Problem((name,), found.fields[name].kind, wrong))
            else:
                good[name] = value
        problems += conflicts(found, good, item, today)
        missing = [name for name in found.required if name not in good and found.fields[name].wanted(good)]
        complete = not problems and not missing
        return ValidateView(values=good, problems=problem_views(problems), missing=missing, complete=complete)

    return await attended(request, portal.gate.run(read))
