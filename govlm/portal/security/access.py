"""Who asks, and what a route lets them do. Every route says it, in its OpenAPI entry too (`x-access`).

@router.get("/items", **allow("citizen", scope="catalogue"))
async def items(portal: Here, who: Who) -> …
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from govlm.portal.errors import PortalError, responses
from govlm.portal.portal import settled
from govlm.portal.security import csrf
from govlm.portal.security.accounts import ROLES
from govlm.portal.security.keys import PREFIX, SCOPES
from govlm.portal.security.logins import COOKIE

__all__ = [
    "FRAMED", "ROLES", "SCOPES", "VISITOR", "Maybe", "Principal", "Who", "allow", "current", "new_session", "new_visitor", "owned", "public", "secure",
    "welcome",
]  # fmt: skip

VISITOR = "govlm_visitor"  # the cookie of one who needs no login
FRAMED = "X-Govlm-Visitor"  # the same, of a page within another site's, which no cookie reaches; a foreign page cannot send it
_COMMON = ("bad_request", "unauthenticated", "forbidden", "too_large", "invalid", "too_many_requests", "busy")


@dataclass(frozen=True)
class Principal:
    """id: "visitor:…", "account:…", "key:…" or "local" (a program on this machine, without a cookie). roles: of ROLES; scopes: of
    SCOPES, None = all. cookie: known by a cookie, which a foreign page's request would carry as well; binding: what its CSRF token is for.
    account: its account's id, of a key too. aliases: who it was before it logged in. must_change: may only change its password."""

    id: str
    roles: frozenset[str]
    scopes: frozenset[str] | None = None
    cookie: bool = False
    binding: str = ""
    account: str = ""
    name: str = ""
    aliases: tuple[str, ...] = ()
    must_change: bool = False

    def may(self, roles: tuple[str, ...], scope: str) -> bool:
        return bool(self.roles & set(roles)) and (self.scopes is None or scope in self.scopes)


def signature(secret: bytes, *parts: str) -> str:
    """Of parts, as text for cookies and numbers."""
    digest = hmac.new(secret, "\0".join(parts).encode(), hashlib.sha256).digest()[:16]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


# ---- who asks


@settled
async def maybe(request: Request) -> Principal | None:
    """Who asks; None: nobody known, where everybody must be. PortalError "unauthenticated": a key that is not, or no longer, one."""
    portal = request.app.state.portal
    open_ = near(request)
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme and (
        not open_ or bearer.startswith(PREFIX)
    ):  # a client that must have a key sends any to a portal that needs none
        found = None
        if scheme.lower() == "bearer" and bearer.startswith(PREFIX):
            found = await portal.gate.run(portal.keys.find, bearer.strip(), portal.clock())
        if found is None:
            portal.limits.hit("address", address(request))
            raise PortalError("unauthenticated")
        key, account = found
        return Principal(f"key:{key.id}", account.roles, key.scopes, account=account.id, name=key.name)
    visitor = _visitor(request) if open_ else None
    if token := request.cookies.get(COOKIE):
        login = await portal.gate.run(portal.logins.find, token, portal.clock())
        if login is not None:
            who = login.account
            aliases = (visitor.id,) if visitor else ()
            return Principal(
                f"account:{who.id}", who.roles, cookie=True, binding=login.id, account=who.id, name=who.name,
                aliases=aliases, must_change=who.must_change,
            )  # fmt: skip
    if visitor is not None or not open_:
        return visitor
    return Principal("local", frozenset({"citizen"}))


Maybe = Annotated["Principal | None", Depends(maybe)]


@settled
async def current(request: Request) -> Principal:
    """Who asks. A visitor of a portal on loopback is whoever bears the same cookie."""
    found = await maybe(request)
    if found is None:
        request.app.state.portal.limits.hit("address", address(request))
        raise PortalError("unauthenticated")
    return found


Who = Annotated[Principal, Depends(current)]


def near(request: Request) -> bool:
    """Whether it comes from this machine to a portal for this machine. One that a proxy passed on does not, told of or not."""
    passed = any(name in request.headers for name in ("forwarded", "via", "x-forwarded-for", "x-real-ip"))
    return bool(request.app.state.portal.settings.loopback) and not passed


def secure(request: Request) -> bool:
    """Whether the citizen speaks TLS, so that cookies may ask for it."""
    return request.url.scheme == "https"


def address(request: Request) -> str:
    found: str = request.app.state.portal.proxies.address(request.client.host if request.client else "", request.headers)
    return found


def _visitor(request: Request) -> Principal | None:
    cookie = VISITOR in request.cookies
    number, _, signed = (request.cookies[VISITOR] if cookie else request.headers.get(FRAMED, "")).partition(".")
    secret = request.app.state.portal.secret
    if not number or not hmac.compare_digest(signed.encode(), signature(secret, VISITOR, number).encode()):
        return None
    return Principal(f"visitor:{number}", frozenset({"citizen"}), cookie=cookie, binding=f"visitor:{number}" if cookie else "")


def new_visitor(secret: bytes) -> str:
    number = secrets.token_urlsafe(16)
    return f"{number}.{signature(secret, VISITOR, number)}"


def welcome(request: Request, response: Response) -> None:
    """Gives a new visitor of a portal on loopback a cookie. For pages only: a program's request gets none."""
    portal = request.app.state.portal
    if near(request) and _visitor(request) is None:
        response.set_cookie(VISITOR, new_visitor(portal.secret), httponly=True, samesite="lax", secure=secure(request))


# ---- what they may


class _Access:
    __signature__: inspect.Signature

    def __init__(self, roles: tuple[str, ...], scope: str, early: bool, local: bool) -> None:
        self.roles, self.scope, self.early, self.local = roles, scope, early, local

    async def __call__(self, request: Request, who: Who) -> None:
        portal = request.app.state.portal
        request.state.who = who.id  # for the log, which shows a pseudonym of it
        if who.id.startswith("key:"):
            portal.limits.hit("key", who.id)
        else:
            if not near(request):
                portal.limits.hit("address", address(request))
            if who.id != "local":
                portal.limits.hit(self.scope, who.id)
            if who.cookie:
                csrf.check(request, who.binding)
            else:
                csrf.own_page(request)
        if self.local and near(request):
            return
        if who.must_change and not self.early:
            raise PortalError("must_change")
        if not who.may(self.roles, self.scope):
            raise PortalError("forbidden")


_Access.__signature__ = inspect.signature(_Access(ROLES, "", False, False).__call__, eval_str=True)  # as `settled`


def allow(
    *roles: str, scope: str, owner: str = "", errors: tuple[str, ...] = (), early: bool = False, local: bool = False
) -> dict[str, Any]:
    """Arguments of a route: who may call it. owner: what of the path belongs to somebody ("session"). errors: as for `responses`.
    early: also before a one-time password was changed. local: by anybody on the machine of a portal on loopback."""
    assert roles and set(roles) <= set(ROLES) and scope in SCOPES, (roles, scope)
    return {
        "dependencies": [Depends(_Access(roles, scope, early, local))],
        "openapi_extra": {
            "x-access": {"roles": sorted(roles), "scope": scope, "owner": owner, **({"local": True} if local else {})}
        },
        "responses": responses(*_COMMON, *errors),
    }


async def _anybody(request: Request) -> None:
    csrf.own_page(request)
    if request.method == "POST" or not near(request):
        request.app.state.portal.limits.hit("login" if request.method == "POST" else "address", address(request))


def public(*, errors: tuple[str, ...] = ()) -> dict[str, Any]:
    """Arguments of a route that anybody may call, to log in: of each address, so often (`rates`)."""
    return {
        "dependencies": [Depends(_anybody)],
        "openapi_extra": {"x-access": {"roles": [], "scope": "", "owner": ""}},
        "responses": responses(*_COMMON, *errors),
    }


# ---- numbers of sessions bear their owner's signature: no other can use them, and nobody can make one up


def new_session(secret: bytes, who: Principal) -> str:
    number = secrets.token_urlsafe(16)
    return f"{number}.{signature(secret, 'session', number, who.id)}"


def owned(secret: bytes, session_id: str, who: Principal) -> str:
    """The session's number, if it is of this principal, or of who it was before it logged in. PortalError "not_found" otherwise, as for
    one that never was."""
    number, _, signed = session_id.partition(".")
    for owner in (who.id, *who.aliases):
        if hmac.compare_digest(signed.encode(), signature(secret, "session", number, owner).encode()):
            return session_id
    raise PortalError("not_found")
