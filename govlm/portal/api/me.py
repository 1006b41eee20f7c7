"""What is kept of the person who asks, what is recommended to them, and their rights over both (个人信息保护法, articles 15, 24, 44 to 47)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from govlm.hall.catalogue.database import tables as hall_tables
from govlm.hall.protection.people import ConsentError
from govlm.hall.push.profile import AGES, EMPLOYMENTS, EVENTS
from govlm.portal.api.items import Region
from govlm.portal.errors import PortalError
from govlm.portal.operations.retention import Policy
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import Who, allow
from govlm.portal.store import feedback
from govlm.portal.store.handoffs import Handoffs

__all__ = ["router"]

router = APIRouter(prefix="/v1/me", tags=["me"])
_NAMES = frozenset({"age", "region", "employment", *(f"event.{name}" for name in EVENTS)})


class PushedView(BaseModel):
    """reason: why it is recommended, in Chinese. kind: item or document."""

    code: str
    name: str
    kind: Literal["item", "document"]
    reason: str


class RecommendationsView(BaseModel):
    """personal: whether what is known of the person counts; False where they have opted out."""

    personal: bool
    recommendations: list[PushedView]


class Event(BaseModel):
    """code: of an item or a document of the catalogue."""

    kind: Literal["asked", "viewed", "applied", "dismissed"]
    code: str = Field(max_length=200, examples=["11990000MB9900013U4990505110001"])


class Recorded(BaseModel):
    """recorded: False where the person has opted out; nothing was kept."""

    recorded: bool


class ProfileRequest(BaseModel):
    values: dict[Annotated[str, Field(max_length=32)], Annotated[str, Field(max_length=32)]] = Field(
        max_length=40,
        description=f"age ({', '.join(AGES)}), region (GB/T 2260), employment ({', '.join(EMPLOYMENTS)}), "
        f"event.… ({', '.join(EVENTS)}: the day); an empty value takes one out",
        examples=[{"age": "18-34", "region": "440106", "employment": "失业", "event.生育": "2026-10-01"}],
    )


class ConsentRequest(BaseModel):
    """purpose: handling (办理事项) or profile (个性化推荐). version: of the words that were agreed to. given: false withdraws; without the
    consent to "profile", the profile is erased."""

    purpose: Literal["handling", "profile"]
    version: str = Field(pattern="^[0-9A-Za-z._-]{1,12}$", examples=["2026-11"])
    given: bool = True


class ConsentView(BaseModel):
    """withdrawn: "" while it holds. Times are ISO, UTC."""

    purpose: str
    version: str
    given: str
    withdrawn: str


class ProfileView(BaseModel):
    values: dict[str, str]
    consents: list[ConsentView]
    opted_out: bool


class KeptView(BaseModel):
    rows: int
    why: str


class DeletedView(BaseModel):
    """erased: rows by table; kept: what the law says must be kept, and why."""

    erased: dict[str, int]
    kept: dict[str, KeptView]


@router.get("/recommendations", **allow("citizen", scope="push"))
async def recommendations(
    portal: Here, who: Who, k: Annotated[int, Query(ge=1, le=20)] = 5, region: Region = ""
) -> RecommendationsView:
    """Items and documents for the person, each with its reason. What was given counts: it is not given again within 30 days."""

    def read() -> RecommendationsView:
        found = portal.hall.push(who.id, k, region=region)
        given = [PushedView.model_validate({"code": p.code, "name": p.name, "kind": p.kind, "reason": p.reason}) for p in found]
        return RecommendationsView(personal=not portal.hall.people.opted_out(who.id), recommendations=given)

    return await portal.gate.run(read)


@router.post("/events", **allow("citizen", scope="push"))
async def event(event: Event, portal: Here, who: Who) -> Recorded:
    """The person asked about, viewed, applied for or dismissed something. What is dismissed is never recommended again."""

    def keep() -> Recorded:
        try:
            return Recorded(recorded=portal.hall.record(who.id, {"kind": event.kind, "code": event.code}))
        except ValueError:  # not in the catalogue
            raise PortalError("invalid", "目录里没有这个编码。", fields=["code"]) from None

    return await portal.gate.run(keep)


@router.get("/profile", **allow("citizen", scope="push"))
async def profile(portal: Here, who: Who) -> ProfileView:
    """What the person has told of themselves, and agreed to."""
    return await portal.gate.run(_profile, portal, who.id)


@router.put("/profile", **allow("citizen", scope="push", errors=("conflict",)))
async def put_profile(wanted: ProfileRequest, portal: Here, who: Who) -> ProfileView:
    """Adds or replaces what the person tells of themselves. 409: they have not agreed that it is kept (POST /v1/me/consent)."""
    if any(name not in _NAMES for name in wanted.values):
        raise PortalError("invalid", fields=["values"])

    def keep() -> ProfileView:
        try:
            portal.hall.put_profile(who.id, wanted.values, datetime.now().astimezone())
        except ConsentError:
            raise PortalError("conflict", "请先同意保存个人资料，再填写。") from None
        except ValueError:
            raise PortalError("invalid", fields=["values"]) from None
        return _profile(portal, who.id)

    return await portal.gate.run(keep)


@router.post("/consent", **allow("citizen", scope="push"))
async def consent(wanted: ConsentRequest, portal: Here, who: Who) -> ProfileView:
    """Gives a consent, or withdraws it."""

    def keep() -> ProfileView:
        now = datetime.now().astimezone()
        portal.audit.record("consent.give" if wanted.given else "consent.withdraw", who, detail={"purpose": wanted.purpose})
        if wanted.given:
            portal.hall.people.consent(who.id, wanted.purpose, wanted.version, now=now)
        else:
            portal.hall.people.withdraw(who.id, wanted.purpose, now=now)
        return _profile(portal, who.id)

    return await portal.gate.run(keep)


@router.post("/opt-out", **allow("citizen", scope="push"))
async def opt_out(portal: Here, who: Who) -> ProfileView:
    """Nothing is recorded from now on, and nothing known counts in what is recommended."""
    await portal.gate.run(portal.hall.opt_out, who.id)
    return await portal.gate.run(_profile, portal, who.id)


@router.post("/opt-in", **allow("citizen", scope="push"))
async def opt_in(portal: Here, who: Who) -> ProfileView:
    """Undoes POST /v1/me/opt-out."""
    await portal.gate.run(portal.hall.opt_in, who.id)
    return await portal.gate.run(_profile, portal, who.id)


@router.get("/export", **allow("citizen", scope="push"))
async def export(portal: Here, who: Who) -> dict[str, Any]:
    """All that is kept of the person: consents, profile, events, conversations, what was handed in, requests for a person, ratings."""

    def read() -> dict[str, Any]:
        hall = portal.hall
        portal.audit.record("person.export", who)
        found: dict[str, Any] = json.loads(hall.people.export(who.id))
        found["handoffs"] = [
            {
                "status": entry.status, "reason": entry.reason, "contact": entry.contact, "replies": list(entry.replies),
                "created": entry.created, "updated": entry.updated,
            }
            for entry in Handoffs(hall).mine(who.id)
        ]  # fmt: skip
        with portal.database.read() as connection:
            found["feedback"] = feedback.of_sessions(hall, connection, _sessions(portal, who.id))
        return found

    return await portal.gate.run(read)


@router.delete("", **allow("citizen", scope="push"))
async def delete(portal: Here, who: Who) -> DeletedView:
    """Erases all that is kept of the person, but what was handed in and must be kept by law."""

    def erase() -> DeletedView:
        def write(connection: Any) -> dict[str, int]:
            return {
                "feedback": feedback.forget(connection, _sessions(portal, who.id)),
                "handoffs": Handoffs(portal.hall).forget(connection, person=who.id),
            }

        portal.audit.record("person.delete", who)
        more = portal.hall.writer.submit(write)
        policy = Policy.of(portal.settings.retention).hall
        done = portal.hall.people.delete(who.id, now=datetime.now().astimezone(), policy=policy)
        if who.account and who.roles == {"citizen"}:  # an office's account is its administrator's to end
            portal.accounts.erase(who.account)
        erased = {**done.erased, **{name: count for name, count in more.items() if count}}
        return DeletedView(erased=erased, kept={name: KeptView(rows=n, why=why) for name, (n, why) in done.kept.items()})

    return await portal.gate.run(erase)


def _profile(portal: Portal, person: str) -> ProfileView:
    people = portal.hall.people
    consents = [
        ConsentView(purpose=c.purpose, version=c.text_version, given=c.given, withdrawn=c.withdrawn)
        for c in people.consents(person)
    ]
    return ProfileView(values=people.profile(person), consents=consents, opted_out=people.opted_out(person))


def _sessions(portal: Portal, person: str) -> Any:
    """A query of the pseudonyms of a person's conversations."""
    import sqlalchemy

    table = hall_tables()["sessions"]
    return sqlalchemy.select(table.c.session).where(table.c.person == portal.hall.people.filed(person))
