"""Login, logout, and who one is here."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from govlm.portal.errors import PortalError
from govlm.portal.portal import Here, Portal
from govlm.portal.security import csrf
from govlm.portal.security.access import VISITOR, Maybe, Principal, Who, allow, near, new_visitor, public, secure
from govlm.portal.security.accounts import Account
from govlm.portal.security.logins import COOKIE
from govlm.portal.store.handoffs import Handoffs
from govlm.portal.views import TurnView

__all__ = ["router"]

if TYPE_CHECKING:
    from govlm.portal.security.oidc import Provider

router = APIRouter(prefix="/v1", tags=["account"])


class Credentials(BaseModel):
    """attach: what is kept of the visitor who logs in (conversations, what was handed in, profile, events) is the account's from now on;
    false leaves it with a visitor who is not known here any more. Tell the person, who may share the browser with others."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[^\x00]+$")
    password: str = Field(min_length=1, max_length=256, repr=False)
    attach: bool = True


class LoginView(BaseModel):
    """must_change: the password was for one time; until POST /v1/me/password nothing else can be done. attached: something was kept of
    the visitor, and is the account's now."""

    roles: list[str]
    must_change: bool
    attached: bool


class MeView(BaseModel):
    """kind: anonymous, who must log in; visitor, of a portal on loopback; account; key; local, a program on this machine. csrf: for the
    header X-CSRF-Token of every request that changes something. label: what answers must be marked with. loopback: no login is needed.
    oidc: login by GET /v1/auth/oidc/login is possible. visitor: where kind is local, for the header X-Govlm-Visitor of a page that no cookie
    reaches, for it is shown within another site's; who sends it is a visitor."""

    kind: Literal["anonymous", "visitor", "account", "key", "local"]
    name: str
    roles: list[str]
    scopes: list[str] | None
    csrf: str
    must_change: bool
    label: str
    loopback: bool
    oidc: bool
    visitor: str


class NewPassword(BaseModel):
    old: str = Field(min_length=1, max_length=256, repr=False)
    new: str = Field(min_length=1, max_length=256, repr=False)


@router.get("/me", **public())
async def me(request: Request, portal: Here, who: Maybe) -> MeView:
    """Who asks, and what pages need to know of it."""
    kind = who.id.partition(":")[0] if who else "anonymous"
    return MeView(
        kind=kind,  # type: ignore[arg-type]
        name=who.name if who else "", roles=sorted(who.roles) if who else [],
        scopes=sorted(who.scopes) if who and who.scopes is not None else None,
        csrf=csrf.token(portal.secret, who.binding) if who and who.cookie else "", must_change=bool(who and who.must_change),
        label=str(TurnView.model_fields["label"].default), loopback=near(request), oidc=portal.oidc is not None,
        visitor=new_visitor(portal.secret) if kind == "local" else "",
    )  # fmt: skip


@router.post("/login", **public(errors=("locked",)))
async def login(given: Credentials, request: Request, response: Response, portal: Here, who: Maybe) -> LoginView:
    """Begins a login, kept in a cookie. Wrong passwords make the next try wait."""

    def check() -> tuple[Account, bool, str]:
        now = portal.clock()
        try:
            account = portal.accounts.login(given.name, given.password, now)
        except PortalError as error:
            portal.audit.record("login.refused", None, detail={"why": error.code})
            raise
        portal.audit.record("login", _as(account))
        attached = given.attach and _attach(portal, who, account, now)
        return account, attached, portal.logins.begin(account, now, request.cookies.get(COOKIE, ""))

    account, attached, token = await portal.gate.run(check)
    _keep(request, response, token, leave=not given.attach)
    return LoginView(roles=sorted(account.roles), must_change=account.must_change, attached=attached)


@router.post("/logout", status_code=204, **allow("citizen", scope="chat", early=True))
async def logout(request: Request, portal: Here, who: Who) -> Response:
    """Ends the login. The next one at this browser sees nothing of it, nor of what was asked before it."""
    if token := request.cookies.get(COOKIE):
        await portal.gate.run(portal.logins.end, token)
        portal.audit.record("logout", who)
    response = Response(status_code=204)
    for name in (COOKIE, VISITOR):
        response.delete_cookie(name, httponly=True, samesite="lax", secure=secure(request))
    return response


@router.post("/me/password", status_code=204, **allow("citizen", scope="chat", errors=("locked",), early=True))
async def password(given: NewPassword, request: Request, portal: Here, who: Who) -> Response:
    """A new password: ten characters of three kinds, or sixteen. All other logins of the account end."""
    if not who.id.startswith("account:"):
        raise PortalError("invalid", "只有登录的账号可以修改密码。", fields=["old"])

    def change() -> str:
        now = portal.clock()
        account = portal.accounts.find(who.account)
        if account is None or account.subject:
            raise PortalError("invalid", "这个账号的密码由统一身份认证管理。", fields=["old"])
        portal.accounts.change(account, given.old, given.new, now)
        portal.audit.record("password.change", who)
        portal.logins.end_all(account.id)
        return portal.logins.begin(account, now)

    response = Response(status_code=204)
    _keep(request, response, await portal.gate.run(change))
    return response


@router.get("/auth/oidc/login", status_code=303, response_class=RedirectResponse, **public(errors=("not_found",)))
async def oidc_login(
    request: Request, portal: Here, then: Annotated[str, Query(max_length=200, description="page to show at the end")] = "/",
    attach: Annotated[bool, Query(description="as of POST /v1/login")] = True,
) -> RedirectResponse:  # fmt: skip
    """Leads the browser to the OpenID Connect provider."""
    provider = _provider(portal)
    if not then.startswith("/") or then.startswith(("//", "/\\")) or not then.isprintable():
        raise PortalError("bad_request", fields=["then"])
    url, kept = await provider.begin(_back(request, portal), then, attach, portal.clock())
    response = RedirectResponse(url, 303)
    response.set_cookie(
        provider.COOKIE,
        kept,
        max_age=provider.LIFE,
        path="/v1/auth/oidc",
        httponly=True,
        samesite="lax",
        secure=secure(request),
    )
    return response


@router.get("/auth/oidc/callback", status_code=303, response_class=RedirectResponse, **public(errors=("not_found",)))
async def oidc_callback(request: Request, portal: Here, who: Maybe) -> RedirectResponse:
    """Where the provider sends the browser back to. Somebody seen for the first time gets a citizen's account."""
    provider = _provider(portal)
    now = portal.clock()
    issuer, number, then, attach = await provider.finish(
        request.cookies.get(provider.COOKIE, ""), dict(request.query_params), _back(request, portal), now
    )

    def begin() -> str:
        account = portal.accounts.of_subject(issuer, number, now)
        portal.audit.record("login", _as(account), detail={"by": "oidc"})
        if attach:
            _attach(portal, who, account, now)
        return portal.logins.begin(account, now, request.cookies.get(COOKIE, ""))

    token = await portal.gate.run(begin)
    response = RedirectResponse(then, 303)
    _keep(request, response, token, leave=not attach)
    response.delete_cookie(provider.COOKIE, path="/v1/auth/oidc")
    return response


def _as(account: Account) -> Principal:
    """Who logs in, for the audit."""
    return Principal(f"account:{account.id}", frozenset(account.roles))


def _attach(portal: Portal, who: Principal | None, account: Account, now: datetime) -> bool:
    """Makes what is kept of a visitor the account's, so that a person sees all of it, and can have all of it erased."""
    if who is None or not who.id.startswith("visitor:"):
        return False
    person = _as(account).id
    moved = portal.hall.people.merge(person, who.id, now=now)
    handoffs = portal.hall.writer.submit(lambda connection: Handoffs(portal.hall).move(connection, person, who.id))
    if not (moved or handoffs):
        return False
    portal.audit.record(
        "person.attach", _as(account), f"visitor:{who.id.partition(':')[2]}", detail={"handoffs": handoffs, **moved}
    )
    return True


def _keep(request: Request, response: Response, token: str, *, leave: bool = False) -> None:
    """leave: who asks is not the visitor any more that this browser was."""
    response.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=secure(request))
    if leave:
        response.delete_cookie(VISITOR, httponly=True, samesite="lax", secure=secure(request))


def _provider(portal: Portal) -> Provider:
    if portal.oidc is None:
        raise PortalError("not_found", "本站未开通统一身份认证登录。")
    return portal.oidc


def _back(request: Request, portal: Portal) -> str:
    base = portal.settings.public or f"{request.url.scheme}://{request.headers['host']}"
    return f"{base}/v1/auth/oidc/callback"
