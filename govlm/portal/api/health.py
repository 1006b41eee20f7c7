"""Whether the worker lives, and whether it can answer."""

from __future__ import annotations

from fastapi import APIRouter

from govlm.portal.portal import Here

__all__ = ["router"]

router = APIRouter(tags=["operations"])


@router.get("/healthz", openapi_extra={"x-access": {"roles": [], "scope": "", "owner": ""}})
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", openapi_extra={"x-access": {"roles": [], "scope": "", "owner": ""}})
async def ready(portal: Here) -> dict[str, str]:
    """The hall and its database answer."""
    await portal.gate.run(lambda: portal.hall.library)
    return {"status": "ready"}
