"""What holds for every request and every answer, errors too: its number, the Host, the size of the body, the headers that browsers obey.

Plain ASGI around the whole application, so that an answer that comes from nowhere else passes here as well.
"""

from __future__ import annotations

import ipaddress
import secrets
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from govlm.portal.errors import PortalError, answer
from govlm.portal.security.limits import Proxies
from govlm.portal.settings import Settings

__all__ = ["UPLOADS", "WIDGET", "Shield"]

UPLOADS = "/v1/admin/imports"  # takes files: `settings.upload`
WIDGET = "/widget"  # the page that other portals' pages may show within themselves
EMBEDDED = "/widget.js"  # what their pages load
_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors {}"
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Shield:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings, self._proxies = app, settings, Proxies(settings.proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        number = secrets.token_hex(8)
        scope["state"] = {**scope.get("state", {}), "request_id": number}
        headers, path = Headers(scope=scope), scope["path"]
        scope["scheme"] = self._scheme(scope, headers)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._tell(MutableHeaders(scope=message), scope, number)
            await send(message)

        if not self._known(headers.get("host", "")):
            error = PortalError("bad_request", "本服务不使用这个地址，请检查网址。")
            await answer(Request(scope), error)(scope, receive, told)
            return
        most = self._most(headers, path)
        declared = headers.get("content-length", "")
        if declared and not (declared.isascii() and declared.isdecimal() and int(declared[:20]) <= most):
            await answer(Request(scope), PortalError("too_large"))(scope, receive, told)
            return
        await self._app(scope, _counted(receive, most), told)

    def _scheme(self, scope: Scope, headers: Headers) -> str:
        """How the citizen reached it: cookies are for TLS only where that was so."""
        if self._settings.secure:
            return "https"
        told = headers.get("x-forwarded-proto", "")
        peer = scope["client"][0] if scope.get("client") else ""
        return told if told in ("http", "https") and self._proxies.trusted(peer) else str(scope["scheme"])

    def _most(self, headers: Headers, path: str) -> int:
        """Bytes that a request may bring. Who shows neither key nor login gets no large file as far as the disk."""
        known = "authorization" in headers or "cookie" in headers
        return self._settings.upload if path.startswith(UPLOADS) and known else self._settings.body

    def _known(self, host: str) -> bool:
        """Whether this is a name of the portal's: a foreign one that leads to this machine makes a foreign page seem ours (DNS rebinding)."""
        settings = self._settings
        name = (host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]).lower()
        names = {*map(str.lower, settings.hosts), settings.public.partition("://")[2].partition(":")[0].lower(), settings.host}
        if name and name in names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            wild = settings.host in ("0.0.0.0", "::") and not settings.hosts and not settings.public
            return name == "localhost" or (wild and bool(name))
        return address.is_loopback or not settings.loopback

    def _tell(self, headers: MutableHeaders, scope: Scope, number: str) -> None:
        settings, path = self._settings, scope["path"]
        framed = " ".join(settings.origins) if path == WIDGET and settings.origins else "'none'"
        headers["X-Request-Id"] = number
        headers["Content-Security-Policy"] = _POLICY.format(framed)
        headers["Cross-Origin-Resource-Policy"] = "cross-origin" if path == EMBEDDED else "same-origin"
        for name, value in _ALWAYS.items():
            headers[name] = value
        if framed == "'none'":
            headers["X-Frame-Options"] = "DENY"
        if scope["scheme"] == "https":
            headers["Strict-Transport-Security"] = "max-age=31536000"
        # A page from the browser's cache would bring no cookie: whoever then asks would be nobody, and the same nobody as others.
        headers["Cache-Control"] = "no-store" if path.startswith("/v1/") else "no-cache"


def _counted(receive: Receive, most: int) -> Receive:
    """A body that does not say its length is cut off where it is too long."""
    seen = 0

    async def next() -> Any:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413)
        return message

    return next
