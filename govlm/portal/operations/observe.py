"""Around every request: a line in the log, figures. Next to the server, so that nothing is answered without."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["Observed"]

_LOG = logging.getLogger("govlm.portal.requests")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
_QUIET = ("/healthz", "/readyz", "/metrics")  # asked again and again by machines: not logged while they answer
_UNKNOWN = "unmatched"


class Observed:
    """ASGI middleware, around the shield that gives requests their numbers."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, ended = time.perf_counter(), 0, False

        async def seen(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, seen)
        finally:
            self._tell(scope, status or 500, ended, time.perf_counter() - begun)

    def _tell(self, scope: Scope, status: int, ended: bool, seconds: float) -> None:
        route, method, state = _route(scope), scope["method"], scope.get("state", {})
        method = method if method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS") else "other"
        portal = getattr(getattr(scope.get("app"), "state", None), "portal", None)
        who = state.get("who", "")
        if portal is not None:
            portal.metrics.request(route, method, status, seconds)
            who = portal.audit.actor(who) if who else ""
            if route.startswith("/v1/"):
                portal.usage.count("latency", route, total=round(1000 * seconds))
        if route in _QUIET and status < 400:
            return
        more = {"code": state["code"]} if "code" in state else {}
        told = {
            "request_id": state.get("request_id", ""), "method": method, "route": route, "status": status,
            "ms": round(1000 * seconds, 1), "who": who, "complete": ended, **more,
        }  # fmt: skip
        _LOG.info("request", extra=told)


def _route(scope: Scope) -> str:
    """The template of the route, never the path itself: that may hold anything."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return "/web" if scope.get("path", "").startswith("/web/") else _UNKNOWN
    return str(path)
