"""Who asks, and what a route lets them do. Every route says it, in its OpenAPI entry too (`x-access`).

@router.get("/items", **allow("citizen", scope="catalogue"))
async def items(portal: Here, who: Who) -> …
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from govlm.portal.errors import PortalError, responses

__all__ = ["ROLES", "SCOPES", "Principal", "Who", "allow", "new_session", "owned"]

ROLES = ("citizen", "clerk", "administrator", "auditor")
SCOPES = ("chat", "catalogue", "models", "push", "admin")  # of API keys
VISITOR = "govlm_visitor"  # the cookie of one who needs no login


@dataclass(frozen=True)
class Principal:
    """id: "visitor:…", "account:…", "key:…" or "local" (a program on this machine, without a cookie). roles: of ROLES; scopes: of
    SCOPES, None = all."""

    id: str
    roles: frozenset[str]
    scopes: frozenset[str] | None = None
    cookie: bool = False  # known by a cookie, which a foreign page's request would carry as well

    def may(self, roles: tuple[str, ...], scope: str) -> bool:
        return bool(self.roles & set(roles)) and (self.scopes is None or scope in self.scopes)


def signature(secret: bytes, *parts: str) -> str:
    """Of parts, as text for cookies and numbers."""
    digest = hmac.new(secret, "\0".join(parts).encode(), hashlib.sha256).digest()[:16]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


async def current(request: Request) -> Principal:
    """Who asks. A visitor of a portal on loopback is whoever bears the same cookie."""
    portal = request.app.state.portal
    if not portal.settings.loopback:
        raise PortalError("unauthenticated")
    number, _, signed = request.cookies.get(VISITOR, "").partition(".")
    if number and hmac.compare_digest(signed, signature(portal.secret, VISITOR, number)):
        return Principal(f"visitor:{number}", frozenset({"citizen"}), cookie=True)
    return Principal("local", frozenset({"citizen"}))


Who = Annotated[Principal, Depends(current)]


class _Access:
    def __init__(self, roles: tuple[str, ...], scope: str) -> None:
        self.roles, self.scope = roles, scope

    async def __call__(self, request: Request, who: Who) -> Principal:
        request.state.who = who.id  # for the log, which shows a pseudonym of it
        if not who.may(self.roles, self.scope):
            raise PortalError("forbidden")
        return who


def allow(*roles: str, scope: str, owner: str = "", errors: tuple[str, ...] = ()) -> dict[str, Any]:
    """Arguments of a route: who may call it. owner: what of the path belongs to somebody ("session"). errors: as for `responses`."""
    assert set(roles) <= set(ROLES) and scope in SCOPES, (roles, scope)
    return {
        "dependencies": [Depends(_Access(roles, scope))],
        "openapi_extra": {"x-access": {"roles": sorted(roles), "scope": scope, "owner": owner}},
        "responses": responses("unauthenticated", "forbidden", "invalid", "too_many_requests", "busy", *errors),
    }


# ---- numbers of sessions bear their owner's signature: no other can use them, and nobody can make one up


def new_session(secret: bytes, who: Principal) -> str:
    number = secrets.token_urlsafe(16)
    return f"{number}.{signature(secret, 'session', number, who.id)}"


def owned(secret: bytes, session_id: str, who: Principal) -> str:
    """The session's number, if it is of this principal. PortalError "not_found" otherwise, as for one that never was."""
    number, _, signed = session_id.partition(".")
    if not hmac.compare_digest(signed.encode(), signature(secret, "session", number, who.id).encode()):
        raise PortalError("not_found")
    return session_id
