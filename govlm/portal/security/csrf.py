"""Requests that another site makes a citizen's browser send: they carry its cookies, and on loopback need none.

Where the browser says which page asks (Origin, Sec-Fetch-Site) it must be a page of this portal. One that is known by a cookie also sends,
in X-CSRF-Token, what GET /v1/me gave it: another site cannot read that.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from fastapi import Request

from govlm.portal.errors import PortalError

__all__ = ["HEADER", "check", "own_page", "token"]

HEADER = "X-CSRF-Token"
SAFE = ("GET", "HEAD", "OPTIONS")


def token(secret: bytes, binding: str) -> str:
    """Of one login or one visitor."""
    return hmac.new(secret, f"csrf\0{binding}".encode(), hashlib.sha256).hexdigest()[:40]


def own_page(request: Request) -> None:
    """PortalError "forbidden": the browser says that a page of another site asks for a change."""
    if request.method in SAFE:
        return
    settings = request.app.state.portal.settings
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if site not in (None, "same-origin", "none"):
        raise PortalError("forbidden", "这项操作只能在本站页面上进行。")
    if origin is None or origin == settings.public:
        return
    parts = urlsplit(origin)
    if parts.netloc != request.headers.get("host") or parts.scheme not in (
        ("https",) if request.url.scheme == "https" else ("http", "https")
    ):
        raise PortalError("forbidden", "这项操作只能在本站页面上进行。")


def check(request: Request, binding: str) -> None:
    """For who is known by a cookie. PortalError "forbidden": see above."""
    if request.method in SAFE:
        return
    own_page(request)
    given = request.headers.get(HEADER, "")
    if not hmac.compare_digest(given.encode(), token(request.app.state.portal.secret, binding).encode()):
        raise PortalError("forbidden", "页面已过期，请刷新后重试。")
