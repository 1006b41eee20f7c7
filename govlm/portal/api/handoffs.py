"""Handing a conversation over to a person: the citizen asks, a clerk takes it, answers and closes it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from govlm.portal.api.chat import Id
from govlm.portal.api.items import Limit, Offset
from govlm.portal.errors import PortalError
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import Principal, Who, allow, owned
from govlm.portal.store.handoffs import Handoff, Handoffs, HandoffTaken
from govlm.portal.views import ExchangeView

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["handoff"])
Number = Annotated[str, Path(max_length=64, description="of the hand-off")]
Status = Literal["none", "waiting", "taken", "closed"]


class HandoffRequest(BaseModel):
    """contact: where a clerk may answer, like a telephone number."""

    reason: str = Field("", max_length=2000, examples=["我的情况比较特殊，想跟工作人员说"])
    contact: str = Field("", max_length=200)


class ReplyView(BaseModel):
    at: str
    text: str


class HandoffView(BaseModel):
    """status "none": a person was not asked for. replies: of the clerk."""

    status: Status
    replies: list[ReplyView]
    created: str
    updated: str

    @classmethod
    def of(cls, found: Handoff | None) -> HandoffView:
        if found is None:
            return cls(status="none", replies=[], created="", updated="")
        replies = [ReplyView.model_validate(reply) for reply in found.replies]
        return cls.model_validate(
            {"status": found.status, "replies": replies, "created": found.created, "updated": found.updated}
        )


class CaseView(HandoffView):
    """What a clerk sees. mine: this clerk has taken it."""

    id: str
    reason: str
    contact: str
    mine: bool

    @classmethod
    def case(cls, handoffs: Handoffs, found: Handoff, who: Principal) -> CaseView:
        head = HandoffView.of(found).model_dump()
        mine = found.clerk == handoffs.clerk(who.id)
        return cls(**head, id=found.id, reason=found.reason, contact=found.contact, mine=mine)


class CasesView(BaseModel):
    handoffs: list[CaseView]


class CaseWithTurns(CaseView):
    """turns: the conversation, as far as its person's data may be shown: numbers of persons are masked where consent was not given."""

    turns: list[ExchangeView]


class ReplyRequest(BaseModel):
    text: str = Field(min_length=1, max_length=5000, examples=["您好，您的情况可以办，请带上诊断证明。"])


@router.post("/sessions/{id}/handoff", **allow("citizen", scope="chat", owner="session", errors=("not_found",)))
async def ask(id: Id, wanted: HandoffRequest, portal: Here, who: Who) -> HandoffView:
    """Asks for a person; again: says it anew."""
    session = owned(portal.secret, id, who)
    reason, contact = wanted.reason.replace("\x00", " "), wanted.contact.replace("\x00", " ")
    portal.usage.count("handoff", "asked")
    return await portal.gate.run(lambda: HandoffView.of(Handoffs(portal.hall).open(session, who.id, reason, contact)))


@router.get("/sessions/{id}/handoff", **allow("citizen", scope="chat", owner="session", errors=("not_found",)))
async def asked(id: Id, portal: Here, who: Who) -> HandoffView:
    """Where the request stands, and what the clerk has answered."""
    session = owned(portal.secret, id, who)
    return await portal.gate.run(lambda: HandoffView.of(Handoffs(portal.hall).of(session)))


@router.get("/handoffs", **allow("clerk", scope="admin"))
async def handoffs(
    portal: Here, who: Who, limit: Limit = 50, offset: Offset = 0,
    status: Annotated[Literal["", "waiting", "taken", "closed"], Query()] = "",
) -> CasesView:  # fmt: skip
    """Requests for a person, the oldest first."""

    def read() -> CasesView:
        kept = Handoffs(portal.hall)
        return CasesView(handoffs=[CaseView.case(kept, found, who) for found in kept.every(status, limit, offset)])

    return await portal.gate.run(read)


@router.get("/handoffs/{number}", **allow("clerk", scope="admin", errors=("not_found",)))
async def handoff(number: Number, portal: Here, who: Who) -> CaseWithTurns:
    """A request with its conversation."""

    def read() -> CaseWithTurns:
        kept = Handoffs(portal.hall)
        try:
            found = kept.get(number)
        except LookupError:
            raise PortalError("not_found") from None
        portal.audit.record("handoff.read", who, f"handoff:{number}")
        library = portal.hall.library
        turns = [ExchangeView.of(library, entry) for entry in portal.hall.history(found.session)]
        return CaseWithTurns(**CaseView.case(kept, found, who).model_dump(), turns=turns)

    return await portal.gate.run(read)


@router.post("/handoffs/{number}/take", **allow("clerk", scope="admin", errors=("not_found", "conflict")))
async def take(number: Number, portal: Here, who: Who) -> CaseView:
    """This clerk will answer it."""
    return await _changed(portal, number, who, "taken")


@router.post("/handoffs/{number}/reply", **allow("clerk", scope="admin", errors=("not_found", "conflict")))
async def reply(number: Number, wanted: ReplyRequest, portal: Here, who: Who) -> CaseView:
    """Answers the citizen; takes the request where nobody has."""
    return await _changed(portal, number, who, "taken", wanted.text.replace("\x00", " "))


@router.post("/handoffs/{number}/close", **allow("clerk", scope="admin", errors=("not_found", "conflict")))
async def close(number: Number, portal: Here, who: Who) -> CaseView:
    """It is done."""
    return await _changed(portal, number, who, "closed")


async def _changed(portal: Portal, number: str, who: Principal, status: str, text: str = "") -> CaseView:
    def change() -> CaseView:
        kept = Handoffs(portal.hall)
        try:
            changed = CaseView.case(kept, kept.change(number, who.id, status, text), who)
        except LookupError:
            raise PortalError("not_found") from None
        except HandoffTaken:
            raise PortalError("conflict", "这个请求已由其他工作人员处理，或者已经结束。") from None
        portal.audit.record("handoff.reply" if text else f"handoff.{status}", who, f"handoff:{number}")
        return changed

    return await portal.gate.run(change)
