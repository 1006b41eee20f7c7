"""Conversations: a message is answered as JSON, or as a stream of events that can be resumed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Path, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, Field

from govlm.hall.dialogue.driver import Turn
from govlm.portal.errors import PortalError
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import Who, allow, new_session, owned
from govlm.portal.views import ExchangeView, StateView, TurnView, pieces

__all__ = ["router"]

router = APIRouter(prefix="/v1/sessions", tags=["chat"])
_STREAM = {200: {"content": {"text/event-stream": {}}, "description": "Events `citation`, `delta`, then `end` with the turn."}}
Id = Annotated[str, Path(max_length=80, description="of the conversation, as POST /v1/sessions gave it")]


class SessionView(BaseModel):
    id: str


class TalkView(BaseModel):
    """A conversation as it stands: what was said, and the state that the last message left."""

    id: str
    turns: list[ExchangeView]
    state: StateView


class Message(BaseModel):
    """key: names the message, so that one that is sent twice is taken once; choose it at random. region: GB/T 2260 code."""

    text: str = Field(max_length=20_000)
    key: str = Field("", max_length=64)
    region: str = Field("", max_length=12, pattern=r"^\d*$")


@router.post("", status_code=201, **allow("citizen", scope="chat"))
async def start(portal: Here, who: Who) -> SessionView:
    """Begins a conversation."""
    return SessionView(id=new_session(portal.secret, who))


@router.get("/{id}", **allow("citizen", scope="chat", owner="session", errors=("not_found",)))
async def talk(id: Id, portal: Here, who: Who, after: int = 0) -> TalkView:
    """The conversation as it stands. after: only turns behind this number."""
    session = owned(portal.secret, id, who)

    def read() -> TalkView:
        hall = portal.hall
        turns = [ExchangeView.of(hall, exchange) for exchange in hall.history(session, after)]
        return TalkView(id=session, turns=turns, state=StateView.of(hall, hall.state(session)))

    return await portal.gate.run(read)


@router.delete("/{id}", status_code=204, **allow("citizen", scope="chat", owner="session", errors=("not_found",)))
async def forget(id: Id, portal: Here, who: Who) -> Response:
    """Erases the conversation. What was submitted stays as long as retention says."""
    await portal.gate.run(portal.hall.sessions.forget, owned(portal.secret, id, who))
    return Response(status_code=204)


@router.post("/{id}/turns", **allow("citizen", scope="chat", owner="session", errors=("not_found", "switched_off")))
async def turn(id: Id, message: Message, portal: Here, who: Who) -> TurnView:
    """Says something; the answer comes once it is kept."""
    return TurnView.of(portal.hall, await say(portal, owned(portal.secret, id, who), message))


_streamed = allow("citizen", scope="chat", owner="session", errors=("not_found", "switched_off"))
_streamed["responses"] = {**_streamed["responses"], **_STREAM}


@router.post("/{id}/turns/stream", response_class=StreamingResponse, **_streamed)
async def stream(id: Id, message: Message, portal: Here, who: Who) -> StreamingResponse:
    """As POST …/turns, as server-sent events: `citation` (all of them first), `delta` {"text"} by sentence, `end` with the whole turn.
    An event's id is turn:place; a stream that broke is resumed by GET …/turns/{number}/stream."""
    found = await say(portal, owned(portal.secret, id, who), message)
    return _events(TurnView.of(portal.hall, found), 0)


@router.get("/{id}/turns/{number}/stream", response_class=StreamingResponse, **_streamed)
async def resume(
    id: Id, number: int, portal: Here, who: Who, last_event_id: Annotated[str, Header(max_length=40)] = ""
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


async def say(portal: Portal, session: str, message: Message) -> Turn:
    """One message of a conversation. PortalError "busy": it could not be kept, and was not taken."""
    portal.switches.require("chat")
    found = await portal.gate.run(
        lambda: portal.hall.chat(session, message.text, region=message.region or None, key=message.key)
    )
    if not found.kept:
        raise PortalError("busy", found.text, retry_after=5)
    portal.metrics.turn()
    return found


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
