"""The form beside a conversation: fields that are edited there, submitting it, and what was handed in as documents."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from govlm.hall.forms.export import export_json, word_document
from govlm.hall.protection.sessions import Submission
from govlm.portal.api.chat import Id, kept
from govlm.portal.api.forms import Values
from govlm.portal.errors import PortalError
from govlm.portal.gate import attended
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import Who, allow, owned
from govlm.portal.views import ItemRef, TurnView

__all__ = ["router"]

router = APIRouter(prefix="/v1/sessions", tags=["chat"])
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
Receipt = Annotated[str, Path(max_length=40, description="its number", examples=["20260302-1A2B3C4D"])]


class FormEdit(BaseModel):
    """values: of fields of the form; an empty one takes the value out of a field that is not required. key: as of a message."""

    values: Values = Field(min_length=1)
    key: str = Field("", max_length=64)


class Submit(BaseModel):
    """confirm: what stands in the form is right. key: names the attempt, so that one that is sent twice submits once."""

    confirm: Literal[True]
    key: str = Field(min_length=1, max_length=64)


class SubmissionView(BaseModel):
    """forms: ids of the forms that were filled, each of which can be had as a document."""

    receipt: str
    item: ItemRef
    forms: list[str]


class SubmissionsView(BaseModel):
    submissions: list[SubmissionView]


class PaperView(BaseModel):
    """A form as it was handed in, field -> value."""

    form: str
    version: str
    title: str
    item: ItemRef
    values: dict[str, str]


class PapersView(BaseModel):
    receipt: str
    forms: list[PaperView]


@router.patch("/{id}/form", **allow("citizen", scope="chat", owner="session", errors=("not_found", "conflict", "switched_off")))
async def edit(id: Id, wanted: FormEdit, request: Request, portal: Here, who: Who) -> TurnView:
    """Writes into fields of the form, as if it had been said. What is wrong stands at the fields and is not kept; a number of an identity
    card is only kept once the person has agreed. 409: no form is being filled."""
    session = owned(portal.secret, id, who)

    def work() -> TurnView:
        portal.switches.require("chat")
        try:
            turn = portal.hall.correct(session, wanted.values, key=wanted.key)
        except ValueError:
            raise PortalError("invalid", "表格里没有这一项。", fields=["values"]) from None
        except LookupError:
            raise PortalError("conflict", "现在没有在填的表格。") from None
        return kept(portal, who, session, turn)

    return await attended(request, portal.gate.run(work))


@router.post(
    "/{id}/submit", **allow("citizen", scope="chat", owner="session", errors=("not_found", "conflict", "switched_off"))
)
async def submit(id: Id, wanted: Submit, request: Request, portal: Here, who: Who) -> TurnView:
    """Submits the form; the receipt is in the state. 409: the form is not complete, or the conversation is elsewhere."""
    session = owned(portal.secret, id, who)

    def work() -> TurnView:
        portal.switches.require("chat")
        try:
            turn = portal.hall.confirm(session, key=wanted.key)
        except LookupError:
            raise PortalError("conflict", "表格还没有填完，暂时不能提交。") from None
        return kept(portal, who, session, turn)

    return await attended(request, portal.gate.run(work))


@router.get("/{id}/submissions", **allow("citizen", scope="chat", owner="session", errors=("not_found",)))
async def submissions(id: Id, portal: Here, who: Who) -> SubmissionsView:
    """What was handed in within the conversation."""
    session = owned(portal.secret, id, who)

    def read() -> SubmissionsView:
        items = portal.hall.library.items
        found = []
        for handed in portal.hall.sessions.submissions(session):
            name = items[handed.item].name if handed.item in items else handed.item
            forms = [form.id for _, form, _ in portal.hall.papers(handed)]
            item = ItemRef(code=handed.item, name=name)
            found.append(SubmissionView(receipt=handed.values["receipt"], item=item, forms=forms))
        return SubmissionsView(submissions=found)

    return await portal.gate.run(read)


@router.get("/{id}/submissions/{receipt}.json", **allow("citizen", scope="chat", owner="session", errors=("not_found",)))
async def as_json(id: Id, receipt: Receipt, portal: Here, who: Who) -> PapersView:
    """The forms with what was handed in."""
    session = owned(portal.secret, id, who)

    def read() -> PapersView:
        papers = portal.hall.papers(_handed(portal, session, receipt))
        forms: list[dict[str, Any]] = [json.loads(export_json(form, values, item)) for item, form, values in papers]
        return PapersView(receipt=receipt, forms=[PaperView.model_validate(entry) for entry in forms])

    return await portal.gate.run(read)


_printed = allow("citizen", scope="chat", owner="session", errors=("not_found",))
_printed["responses"] = {
    **_printed["responses"],
    200: {"content": {_WORD: {"schema": {"type": "string", "format": "binary"}}}, "description": "A Word document."},
}


@router.get("/{id}/submissions/{receipt}.docx", response_class=Response, **_printed)
async def as_word(
    id: Id, receipt: Receipt, portal: Here, who: Who,
    form: Annotated[str, Query(max_length=64, description="which of several forms (default: the first)")] = "",
) -> Response:  # fmt: skip
    """The form with what was handed in, to print and sign."""
    session = owned(portal.secret, id, who)

    def made() -> bytes:
        papers = portal.hall.papers(_handed(portal, session, receipt))
        chosen = next((entry for entry in papers if not form or entry[1].id == form), None)
        if chosen is None:
            raise PortalError("not_found")
        item, paper, values = chosen
        return word_document(paper, values, item)

    document = await portal.gate.run(made)
    name = "".join(char for char in receipt if char.isascii() and (char.isalnum() or char == "-"))
    headers = {"Content-Disposition": f'attachment; filename="{name}.docx"', "Cache-Control": "no-store"}
    return Response(document, media_type=_WORD, headers=headers)


def _handed(portal: Portal, session: str, receipt: str) -> Submission:
    """PortalError "not_found": nothing of this number was handed in here."""
    found = portal.hall.sessions.submissions(session)
    handed = next((entry for entry in found if entry.values.get("receipt") == receipt), None)
    if handed is None:
        raise PortalError("not_found")
    return handed
