"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from govlm.portal.errors import PortalError, responses
from govlm.portal.portal import Here
from govlm.portal.security.access import Maybe, near

__all__ = ["router"]

router = APIRouter(tags=["operations"])


@router.get(
    "/metrics", response_class=Response, responses=responses("unauthenticated", "forbidden"),
    openapi_extra={"x-access": {"roles": ["administrator"], "scope": "admin", "owner": "", "local": True}},
)  # fmt: skip
async def metrics(request: Request, portal: Here, who: Maybe) -> Response:
    """Requests, latencies, queue, turns, refusals, batches, memory. For programs on the machine of a portal on loopback, and with an API key
    of the scope admin."""
    if not near(request):
        if who is None:
            raise PortalError("unauthenticated")
        if who.scopes is None or not who.may(("administrator",), "admin"):
            raise PortalError("forbidden")
    portal.metrics.measure(portal.gate.waiting)
    body, kind = portal.metrics.text()
    return Response(body, headers={"Content-Type": kind, "Cache-Control": "no-store"})
