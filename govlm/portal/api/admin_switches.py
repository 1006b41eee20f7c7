"""The kill switch: an administrator stops the assistant's answers, for all workers within a second."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from govlm.portal.errors import PortalError
from govlm.portal.operations.switches import Switch
from govlm.portal.portal import Here
from govlm.portal.security.access import Who, allow

__all__ = ["router"]

router = APIRouter(prefix="/v1/admin/switches", tags=["administration"])
Name = Annotated[str, Path(max_length=64, examples=["chat"])]
_ADMIN = allow("administrator", scope="admin", errors=("not_found",))


class SwitchView(BaseModel):
    """by: the pseudonym of who turned it; at: when; "" where nobody did yet."""

    name: str
    on: bool
    reason: str
    by: str
    at: str

    @classmethod
    def of(cls, switch: Switch) -> SwitchView:
        return cls(**switch._asdict())


class SwitchesView(BaseModel):
    switches: list[SwitchView]


class Turned(BaseModel):
    """reason: for the record."""

    on: bool
    reason: str = Field(min_length=1, max_length=500)


@router.get("", **_ADMIN)
async def switches(portal: Here) -> SwitchesView:
    """All switches."""
    return SwitchesView(switches=[SwitchView.of(switch) for switch in portal.switches.all()])


@router.get("/{name}", **_ADMIN)
async def switch(name: Name, portal: Here) -> SwitchView:
    """One switch. chat: whether the assistant answers."""
    for found in portal.switches.all():
        if found.name == name:
            return SwitchView.of(found)
    raise PortalError("not_found")


@router.put("/{name}", **_ADMIN)
async def turn(name: Name, given: Turned, portal: Here, who: Who) -> SwitchView:
    """Turns a switch. With chat off the assistant says that it is paused, and how to go on without it."""
    await switch(name, portal)
    reason = given.reason.replace("\x00", " ")
    await portal.gate.run(portal.switches.set, name, given.on, reason, portal.pseudonym(who), portal.clock())
    portal.audit.record("switch.on" if given.on else "switch.off", who, f"switch:{name}")
    return await switch(name, portal)
