"""Conversations: a message is answered as JSON, or as a stream of events that can be resumed."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, Field

from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.dialogue.driver import Turn
from govlm.portal.errors import PortalError
from govlm.portal.gate import attended
from govlm.portal.latency import bucket
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import Principal, Who, allow, new_session, owned
from govlm.portal.store import feedback, questions
from govlm.portal.store.handoffs import Handoffs
from govlm.portal.views import ExchangeView, StateView, TurnView, pieces

__all__ = ["EVENT", "Id", "Message", "kept", "router", "say"]

_LOG = logging.getLogger(__name__)
PERSONS = ("visitor:", "account:")  # principals that are one person each; a key or a program speaks for many
router = APIRouter(prefix="/v1/sessions", tags=["chat"])
EVENT = {
    "type": "object", "required": ["data"],
    "properties": {name: {"type": "string"} for name in ("event", "data", "id")},
}  # fmt: skip  # of a stream, as its document shows it: data is JSON
_STREAM = {
    200: {
        "content": {"text/event-stream": {"schema": EVENT}},
        "description": "Events `citation`, `delta`, then `end` with the turn.",
    }
}
Id = Annotated[str, Path(max_length=80, description="of the conversation, as POST /v1/sessions gave it")]
Number = Annotated[int, Path(ge=1, le=10**9, description="of the turn")]


class SessionView(BaseModel):
    id: str


class TalkView(BaseModel):
    """A conversation as it stands: what was said, and the state that the last message left."""

    id: str
    turns: list[ExchangeView]
    state: StateView


class Message(BaseModel):
    """key: names the message, so that one that is sent twice is taken once; choose it at random. region: GB/T 2260 code."""

    text: str = Field(max_length=20_000, examples=["我想申请低保"])
    key: str = Field("", max_length=64)
    region: str = Field("", max_length=12, pattern="^[0-9]*$")


@router.post("", status_code=201, **allow("citizen", scope="chat"))
async def start(portal: Here, who: Who) -> SessionView:
    """Begins a conversation."""
    return SessionView(id=new_session(portal.secret, who))


@router.get("/{id}", **allow("citizen", scope="chat", owner="session", errors=("not_found",)))
async def talk(id: Id, portal: Here, who: Who, after: Annotated[int, Query(ge=0, le=10**9)] = 0) -> TalkView:
    """The conversation as it stands. after: only turns behind this number."""
    session = owned(portal.secret, id, who)

    def read() -> TalkView:
        hall = portal.hall
        library = hall.library
        turns = [ExchangeView.of(library, exchange) for exchange in hall.history(session, after)]
        return TalkView(id=session, turns=turns, state=StateView.of(hall, hall.state(session)))

    return await portal.gate.run(read)


@router.delete("/{id}", status_code=204, **allow("citizen", scope="chat", owner="session", errors=("not_found",)))
async def forget(id: Id, portal: Here, who: Who) -> Response:
    """Erases the conversation. What was submitted stays as long as retention says."""
    session = owned(portal.secret, id, who)

    def erase() -> None:
        def write(connection: Any) -> None:
            feedback.forget(connection, [portal.hall.sessions.filed(session)])
            Handoffs(portal.hall).forget(connection, session=session)

        portal.hall.writer.submit(write)
        portal.hall.sessions.forget(session)
        portal.audit.record("session.delete", who, f"session:{session}")

    await portal.gate.run(erase)
    return Response(status_code=204)


@router.post("/{id}/turns", **allow("citizen", scope="chat", owner="session", errors=("not_found", "switched_off")))
async def turn(id: Id, message: Message, request: Request, portal: Here, who: Who) -> TurnView:
    """Says something; the answer comes once it is kept."""
    return await attended(request, say(portal, who, owned(portal.secret, id, who), message))


_streamed = allow("citizen", scope="chat", owner="session", errors=("bad_request", "not_found", "switched_off"))
_streamed["responses"] = {**_streamed["responses"], **_STREAM}


@router.post("/{id}/turns/stream", response_class=StreamingResponse, **_streamed)
async def stream(id: Id, message: Message, request: Request, portal: Here, who: Who) -> StreamingResponse:
    """As POST …/turns, as server-sent events: `citation` (all of them first), `delta` {"text"} by sentence, `end` with the whole turn.
    An event's id is turn:place; a stream that broke is resumed by GET …/turns/{number}/stream."""
    return _events(await attended(request, say(portal, who, owned(portal.secret, id, who), message)), 0)


@router.get("/{id}/turns/{number}/stream", response_class=StreamingResponse, **_streamed)
async def resume(
    id: Id, number: Number, portal: Here, who: Who, last_event_id: Annotated[str, Header(max_length=40)] = ""
) -> StreamingResponse:
    """The stream of a turn again, behind the event that came last (header Last-Event-ID)."""
    session = owned(portal.secret, id, who)
    turn, _, place = last_event_id.partition(":")
    if last_event_id and not (turn == str(number) and place.isdecimal() and place.isascii()):
        raise PortalError("bad_request", "Last-Event-ID 不是这次对话的事件编号。", fields=["Last-Event-ID"])

    def read() -> TurnView:
        found = portal.hall.history(session, number - 1)[:1]
        if not found or found[0].number != number:
            raise PortalError("not_found")
        return TurnView.of(portal.hall, Turn.of(found[0], portal.hall.state(session)))

    return _events(await portal.gate.run(read), int(place) if place else 0)


async def say(portal: Portal, who: Principal, session: str, message: Message) -> TurnView:
    """One message of a conversation. PortalError "busy": it could not be kept, and was not taken."""
    portal.switches.require("chat")

    def work() -> TurnView:
        turn = portal.hall.chat(session, message.text, region=message.region or None, key=message.key)
        return kept(portal, who, session, turn)

    begun = time.perf_counter()
    made = await portal.gate.run(work)
    portal.usage.count("latency_class", bucket(1000 * (time.perf_counter() - begun)))
    return made


def _business(portal: Portal, turn: Turn) -> str:
    """The business type of the item that a turn is about; "" where it is about none."""
    cited = next((citation.code for citation in turn.citations if citation.kind == "item"), "")
    item = portal.hall.library.items.get(cited or (turn.state.top.item if turn.state.top else ""))
    return item.business if item else ""


def kept(portal: Portal, who: Principal, session: str, turn: Turn) -> TurnView:
    """The turn for its client, with what follows from it: the conversation is its person's, a person who is wanted is asked for, a question without an
    answer goes to the console. PortalError "busy": it was not kept."""
    if not turn.kept:
        raise PortalError("busy", turn.text, retry_after=5)
    portal.metrics.turn()
    portal.usage.count("turn", "refused" if turn.reason else "answered")
    if business := _business(portal, turn):
        portal.usage.count("business", business)
    try:
        if turn.version == 1 and who.id.startswith(PERSONS):
            portal.hall.people.attach(who.id, session, now=datetime.now().astimezone())
        if turn.handed_off:
            portal.usage.count("handoff", "asked")
            Handoffs(portal.hall).open(session, who.id, "")
    except CatalogueError as error:  # the turn itself is kept
        _LOG.error("what follows from a turn was not kept: %s", error)
    if turn.reason and turn.reason != "empty":
        said = portal.hall.history(session, turn.version - 1)[:1]
        questions.note(portal.hall, "unanswered", said[0].message if said else "", turn.reason)
    return TurnView.of(portal.hall, turn)


def _events(turn: TurnView, after: int) -> StreamingResponse:
    """The turn as events behind the one numbered `after`."""
    entries = [
        *(("citation", citation.model_dump_json()) for citation in turn.citations),
        *(("delta", Delta(text=text).model_dump_json()) for text in pieces(turn.text)),
        ("end", turn.model_dump_json()),
    ]

    async def made() -> AsyncIterator[bytes]:
        for number, (kind, data) in enumerate(entries, 1):
            if number > after:
                yield format_sse_event(data_str=data, event=kind, id=f"{turn.number}:{number}")

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(made(), media_type="text/event-stream", headers=headers)


class Delta(BaseModel):
    text: str
