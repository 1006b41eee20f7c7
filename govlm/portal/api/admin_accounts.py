"""The administrator's accounts and API keys."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from govlm.portal.errors import PortalError
from govlm.portal.portal import Here
from govlm.portal.security.access import Who, allow
from govlm.portal.security.accounts import Account
from govlm.portal.security.keys import Key

__all__ = ["router"]

router = APIRouter(prefix="/v1/admin", tags=["administration"])
_ADMIN = allow("administrator", scope="admin")
_CHANGED = allow("administrator", scope="admin", errors=("not_found", "conflict"))
Id = Annotated[str, Path(max_length=64, pattern="^[0-9a-f]+$")]
Role = Literal["citizen", "clerk", "administrator", "auditor"]
Scope = Literal["chat", "catalogue", "models", "push", "admin"]


class AccountView(BaseModel):
    """disabled: since when, "" for never. oidc: of somebody who logs in at the OpenID Connect provider."""

    id: str
    name: str
    roles: list[str]
    created: str
    disabled: str
    must_change: bool
    oidc: bool

    @classmethod
    def of(cls, account: Account) -> AccountView:
        return cls(
            id=account.id, name=account.name, roles=sorted(account.roles), created=account.created, disabled=account.disabled,
            must_change=account.must_change, oidc=bool(account.subject),
        )  # fmt: skip


class Accounts(BaseModel):
    accounts: list[AccountView]


class NewAccount(BaseModel):
    name: str = Field(min_length=2, max_length=64, pattern=r"^[\w.@-]+$")
    roles: list[Role]


class Told(BaseModel):
    """password: for one login; it is shown this once."""

    account: AccountView
    password: str


class Change(BaseModel):
    roles: list[Role] | None = None
    disabled: bool | None = None


class KeyView(BaseModel):
    """account: the id of the one that it acts for. expires, revoked: when, "" for never."""

    id: str
    name: str
    scopes: list[str]
    account: str
    created: str
    expires: str
    revoked: str

    @classmethod
    def of(cls, key: Key) -> KeyView:
        return cls(
            id=key.id, name=key.name, scopes=sorted(key.scopes), account=key.owner, created=key.created, expires=key.expires,
            revoked=key.revoked,
        )  # fmt: skip


class Keys(BaseModel):
    keys: list[KeyView]


class NewKey(BaseModel):
    """days: until it expires; none for a key without an end."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")
    scopes: list[Scope] = Field(min_length=1)
    days: int | None = Field(None, ge=1, le=3650)


class ToldKey(BaseModel):
    """text: what the other system sends as `Authorization: Bearer …`; it is shown this once."""

    key: KeyView
    text: str


@router.get("/accounts", **_ADMIN)
async def accounts(portal: Here) -> Accounts:
    """All accounts."""
    return Accounts(accounts=[AccountView.of(account) for account in await portal.gate.run(portal.accounts.all)])


@router.post("/accounts", status_code=201, **_CHANGED)
async def add(given: NewAccount, portal: Here, who: Who) -> Told:
    """A new account with a one-time password."""
    account, password = await portal.gate.run(portal.accounts.create, given.name, given.roles, portal.clock())
    portal.audit.record("account.create", who, f"account:{account.id}", {"roles": sorted(account.roles)})
    return Told(account=AccountView.of(account), password=password)


@router.patch("/accounts/{id}", **_CHANGED)
async def change(id: Id, given: Change, portal: Here, who: Who) -> AccountView:
    """Other roles, or an end of the account's logins and keys until it is enabled again. One administrator must be left."""

    def work() -> Account:
        found = portal.accounts.update(id, portal.clock(), roles=given.roles, disabled=given.disabled)
        portal.logins.end_all(id)
        portal.audit.record("account.change", who, f"account:{id}", {"roles": sorted(found.roles), "disabled": found.disabled})
        return found

    return AccountView.of(await portal.gate.run(work))


@router.post("/accounts/{id}/password", **_CHANGED)
async def reset(id: Id, portal: Here, who: Who) -> Told:
    """A one-time password in the place of the account's; its logins end."""

    def work() -> Told:
        password = portal.accounts.reset(id)
        portal.logins.end_all(id)
        found = portal.accounts.find(id)
        if found is None:
            raise PortalError("not_found")
        portal.audit.record("account.reset", who, f"account:{id}")
        return Told(account=AccountView.of(found), password=password)

    return await portal.gate.run(work)


@router.get("/keys", **_ADMIN)
async def keys(portal: Here) -> Keys:
    """All API keys, those that have ended too; never their texts."""
    return Keys(keys=[KeyView.of(key) for key in await portal.gate.run(portal.keys.all)])


@router.post("/keys", status_code=201, **_CHANGED)
async def add_key(given: NewKey, portal: Here, who: Who) -> ToldKey:
    """A key for another system. It acts for who makes it, within its scopes."""
    if who.scopes is not None and not set(given.scopes) <= who.scopes:
        raise PortalError("invalid", "接口密钥不能签发超出自身范围的密钥。", fields=["scopes"])
    key, text = await portal.gate.run(portal.keys.create, given.name, given.scopes, who.account, portal.clock(), given.days)
    portal.audit.record("key.make", who, f"key:{key.id}", {"scopes": sorted(key.scopes)})
    return ToldKey(key=KeyView.of(key), text=text)


@router.delete("/keys/{id}", status_code=204, **_CHANGED)
async def revoke(id: Id, portal: Here, who: Who) -> Response:
    """The key works no more."""
    await portal.gate.run(portal.keys.revoke, id, portal.clock())
    portal.audit.record("key.revoke", who, f"key:{id}")
    return Response(status_code=204)
