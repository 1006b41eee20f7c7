"""The audit: what was done by whom, and whether all of it is still there."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from govlm.hall.catalogue.tables import library
from govlm.portal.audit.verify import verify
from govlm.portal.portal import Here
from govlm.portal.security.access import Who, allow
from govlm.portal.store.tables import tables

__all__ = ["router"]

router = APIRouter(prefix="/v1/audit", tags=["audit"])
Time = Annotated[str, Query(max_length=40, pattern=r"^(\d{4}-\d\d-\d\d(T[0-9:.]{1,20}Z)?)?$", description="UTC, 2026-03-05 or 2026-03-05T08:00:00Z")]  # fmt: skip
Text = Annotated[str, Query(max_length=160)]


class EntryView(BaseModel):
    """actor, and the numbers of persons and sessions: pseudonyms."""

    chain: str
    number: int
    at: str
    actor: str
    role: str
    action: str
    object: str
    detail: dict[str, Any]
    digest: str


class AuditView(BaseModel):
    """total: entries that the filter lets through, of which these are some, the newest first."""

    total: int
    entries: list[EntryView]


class FindingView(BaseModel):
    kind: str
    chain: str
    number: int
    text: str


class NoteView(BaseModel):
    """number: of the anchors' line that is torn; how many entries are not anchored; else 0."""

    kind: str
    chain: str
    number: int
    text: str


class VerifiedView(BaseModel):
    """told: what is no finding and should be known."""

    sound: bool
    chains: int
    entries: int
    findings: list[FindingView]
    told: list[NoteView]


@router.get("", **allow("auditor", scope="admin"))
async def entries(
    portal: Here,
    who: Who,
    action: Text = "",
    actor: Text = "",
    object: Text = "",
    since: Time = "",
    until: Time = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> AuditView:
    """Entries of the audit. action: its beginning, like account. actor: a pseudonym, or a number like account:3f…; object: the same, or
    like item:0123. since, until: the second is not included."""
    table, sa = tables()["audit"], library("sqlalchemy", "the audit")
    where = []
    if action:
        where.append(table.c.action.startswith(action, autoescape=True))
    if actor:
        where.append(table.c.actor.in_([actor, portal.audit.actor(actor)]))
    if object:
        where.append(table.c.object.in_([object, portal.audit.object(object)]))
    if since:
        where.append(table.c.at >= since)
    if until:
        where.append(table.c.at < until)

    def read() -> AuditView:
        order = (table.c.at.desc(), table.c.chain.desc(), table.c.number.desc())
        with portal.database.read() as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar()
            rows = connection.execute(sa.select(table).where(*where).order_by(*order).limit(limit).offset(offset)).mappings()
            found = [EntryView(**{**row, "detail": json.loads(row["detail"])}) for row in rows]
        return AuditView(total=total, entries=found)

    found = await portal.gate.run(read)
    portal.audit.record("audit.read", who, detail={"offset": offset})
    return found


@router.get("/verify", **allow("auditor", scope="admin"))
async def verified(portal: Here, who: Who) -> VerifiedView:
    """Looks for entries that were changed, deleted, reordered or cut off."""
    found = await portal.gate.run(verify, portal.database, portal.anchors)
    portal.audit.record("audit.verify", who, detail={"sound": found.sound})
    findings = [FindingView(**vars(finding)) for finding in found.findings]
    told = [NoteView(**vars(note)) for note in found.told]
    return VerifiedView(sound=found.sound, chains=found.chains, entries=found.entries, findings=findings, told=told)
