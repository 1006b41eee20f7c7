"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from govlm.portal.portal import Here
from govlm.portal.security.access import allow

__all__ = ["router"]

router = APIRouter(tags=["operations"])


_READ = allow("administrator", scope="admin", local=True)
_READ["responses"] = {**_READ["responses"], 200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}}


@router.get("/metrics", response_class=Response, **_READ)
async def metrics(portal: Here) -> Response:
    """Requests, latencies, queue, turns, refusals, batches, memory. For programs on the machine of a portal on loopback, and with an API key
    of the scope admin."""
    portal.metrics.measure(portal.gate.waiting)
    body, kind = portal.metrics.text()
    return Response(body, headers={"Content-Type": kind, "Cache-Control": "no-store"})
