"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from govlm.portal.errors import PortalError, responses
from govlm.portal.portal import Here
from govlm.portal.security.access import current

__all__ = ["router"]

router = APIRouter(tags=["operations"])
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")  # a proxy on this machine asks for somebody else
_HERE = ("127.0.0.1", "::1", "testclient")


@router.get(
    "/metrics", response_class=Response, responses=responses("unauthenticated", "forbidden"),
    openapi_extra={"x-access": {"roles": ["administrator"], "scope": "admin", "owner": "", "local": True}},
)  # fmt: skip
async def metrics(request: Request, portal: Here) -> Response:
    """Requests, latencies, queue, turns, refusals, batches, memory. For programs on the machine of a portal on loopback, and with an API key
    of the scope admin."""
    local = portal.settings.loopback and request.client is not None and request.client.host in _HERE
    if not local or any(name in request.headers for name in _FORWARDED):
        who = await current(request)
        if not (who.may(("administrator",), "admin") and who.scopes is not None):
            raise PortalError("forbidden")
    portal.metrics.measure(portal.gate.waiting)
    body, kind = portal.metrics.text()
    return Response(body, headers={"Content-Type": kind, "Cache-Control": "no-store"})
