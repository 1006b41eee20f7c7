"""What a person says of an answer. A bad rating brings the question, masked, to the console."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from govlm.portal.api.chat import Id, Number
from govlm.portal.errors import PortalError
from govlm.portal.portal import Here
from govlm.portal.security.access import Who, allow, owned
from govlm.portal.store import feedback, questions

__all__ = ["router"]

router = APIRouter(prefix="/v1/sessions", tags=["chat"])


class Rating(BaseModel):
    rating: Literal["up", "down"]
    comment: str = Field("", max_length=2000, examples=["没有说周末能不能办"])


@router.post(
    "/{id}/turns/{number}/feedback", status_code=204, **allow("citizen", scope="chat", owner="session", errors=("not_found",))
)
async def rate(id: Id, number: Number, rating: Rating, portal: Here, who: Who) -> Response:
    """Rates an answer; the last rating counts."""
    session = owned(portal.secret, id, who)

    def keep() -> None:
        found = portal.hall.history(session, number - 1)[:1]
        if not found or found[0].number != number:
            raise PortalError("not_found")
        comment = rating.comment.replace("\x00", " ")
        portal.usage.count("rating", rating.rating)
        feedback.put(portal.hall, session, number, rating.rating, comment)
        if rating.rating == "down":
            questions.note(portal.hall, "bad", found[0].message, comment)

    await portal.gate.run(keep)
    return Response(status_code=204)
