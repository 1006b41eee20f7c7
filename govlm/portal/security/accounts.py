"""Accounts: who may log in, with which roles. Wrong passwords make the next try wait, longer and longer.

Nobody's name but an account's own is kept: tries are counted under a pseudonym of what was typed, as that may be a password; an account of
an OIDC provider has a pseudonym of its number there.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa

from govlm.hall.catalogue.database import Database
from govlm.hall.protection.vault import Vault
from govlm.portal.errors import PortalError
from govlm.portal.security import passwords
from govlm.portal.store.tables import tables

__all__ = ["ADMINISTRATOR", "ROLES", "Account", "Accounts", "Attempts", "stamp", "utc"]

ADMINISTRATOR = "admin"  # made at first start
ROLES = ("citizen", "clerk", "administrator", "auditor")
FREE, FIRST, MOST = 4, 30, 900  # tries without a delay; seconds after the next, doubled by each; at most
_FIRST_TRY = (
    "INSERT INTO portal_attempts (id, last, locked_until, failed) VALUES (:id, :last, '', 0) ON CONFLICT (id) DO NOTHING"
)
_FORGOTTEN = timedelta(days=1)  # a name that nobody tried for so long


def utc() -> datetime:
    return datetime.now(timezone.utc)


def stamp(now: datetime) -> str:
    """As the tables have it: ISO 8601 in UTC, to the second, so that texts are in the order of time."""
    return now.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Account:
    """subject: pseudonym of the person at an OIDC provider, "" for an account with a password of its own. disabled: since when, or ""."""

    id: str
    name: str
    roles: frozenset[str]
    subject: str
    created: str
    disabled: str
    must_change: bool


class Attempts:
    """Counts tries of a name in the database, for all workers together."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database, self._vault, self._table = database, vault, tables()["attempts"]

    def _row(self, name: str) -> str:
        return self._vault.pseudonym("login", name.strip().lower())

    def begin(self, name: str, now: datetime) -> None:
        """Counts a try before its password is looked at, so that many at once are not free. PortalError "locked": it must wait."""
        table, row = self._table, self._row(name)
        with self._database.write(catalogue=False) as connection:
            connection.execute(table.delete().where(table.c.last < stamp(now - _FORGOTTEN)))
            connection.execute(
                sa.text(_FIRST_TRY), {"id": row, "last": stamp(now)}
            )  # so that there is a row to hold others off with
            question = sa.select(table.c.failed, table.c.locked_until).where(table.c.id == row).with_for_update()
            found = connection.execute(question).one()
            failed = found.failed
            if found.locked_until > stamp(now):
                left = datetime.strptime(found.locked_until, "%Y-%m-%dT%H:%M:%S%z") - now
                raise PortalError("locked", retry_after=max(1, math.ceil(left.total_seconds())))
            wait = min(MOST, FIRST << min(failed - FREE, 10)) if failed >= FREE else 0
            values = {
                "failed": failed + 1,
                "last": stamp(now),
                "locked_until": stamp(now + timedelta(seconds=wait)) if wait else "",
            }
            connection.execute(table.update().where(table.c.id == row).values(**values))

    def clear(self, name: str) -> None:
        """After a right password."""
        with self._database.write(catalogue=False) as connection:
            connection.execute(self._table.delete().where(self._table.c.id == self._row(name)))


class Accounts:
    """The accounts in the database. now: the time, in UTC."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database, self._vault, self._table = database, vault, tables()["accounts"]
        self.attempts = Attempts(database, vault)

    # ---- look-up

    def find(self, id: str) -> Account | None:
        return self._first(self._table.c.id == id)

    def named(self, name: str) -> Account | None:
        return self._first(self._table.c.name == name.strip())

    def all(self) -> list[Account]:
        with self._database.read() as connection:
            return [_account(row) for row in connection.execute(sa.select(self._table).order_by(self._table.c.name))]

    def _first(self, condition: Any) -> Account | None:
        with self._database.read() as connection:
            row = connection.execute(sa.select(self._table).where(condition)).first()
        return _account(row) if row else None

    # ---- passwords

    def login(self, name: str, password: str, now: datetime) -> Account:
        """PortalError "locked", or "unauthenticated" for a wrong password, an unknown name and a disabled account alike."""
        self.attempts.begin(name, now)
        with self._database.read() as connection:
            row = connection.execute(sa.select(self._table).where(self._table.c.name == name.strip())).first()
        right, renew = passwords.check(row.password if row else "", password)
        if row is None or not right or row.disabled:
            raise PortalError("unauthenticated", "账号或密码不正确。")
        if renew:
            self._write(row.id, password=passwords.digest(password))
        self.attempts.clear(name)
        return _account(row)

    def change(self, account: Account, old: str, new: str, now: datetime) -> None:
        """PortalError "locked", or "invalid": the old password is wrong, or the new one will not do."""
        self.attempts.begin(account.name, now)
        with self._database.read() as connection:
            kept = connection.execute(sa.select(self._table.c.password).where(self._table.c.id == account.id)).scalar()
        if not passwords.check(kept or "", old)[0]:
            raise PortalError("invalid", "原密码不正确。", fields=["old"])
        self.attempts.clear(account.name)
        passwords.choose(new, account.name, old)
        self._write(account.id, password=passwords.digest(new), must_change="")

    def reset(self, id: str) -> str:
        """A one-time password in the place of the account's, and an end of its waiting. PortalError "not_found"."""
        found = self.find(id)
        if found is None or found.subject:
            raise PortalError("not_found")
        password = passwords.one_time()
        self._write(id, password=passwords.digest(password), must_change="1")
        self.attempts.clear(found.name)
        return password

    # ---- changes

    def create(self, name: str, roles: Iterable[str], now: datetime, *, subject: str = "") -> tuple[Account, str]:
        """A new account and its one-time password, or "" with a subject. PortalError "conflict": the name is taken."""
        password = "" if subject else passwords.one_time()
        account = Account(secrets.token_hex(8), name.strip(), _roles(roles), subject, stamp(now), "", not subject)
        kept = passwords.digest(password) if password else ""
        with self._database.write(catalogue=False) as connection:
            if connection.execute(sa.select(self._table.c.id).where(self._table.c.name == account.name)).first():
                raise PortalError("conflict", "账号名已被使用。", fields=["name"])
            connection.execute(
                self._table.insert().values(
                    id=account.id, name=account.name, password=kept, roles=" ".join(sorted(account.roles)), subject=subject,
                    created=account.created, disabled="", must_change="1" if account.must_change else "",
                )
            )  # fmt: skip
        return account, password

    def first(self, now: datetime) -> str:
        """The administrator of a portal that has none, and the password to print; "" where there is one."""
        if any("administrator" in account.roles for account in self.all()):
            return ""
        return self.create(ADMINISTRATOR, ["administrator"], now)[1]

    def of_subject(self, issuer: str, number: str, now: datetime) -> Account:
        """The account of a person at an OIDC provider; made, as a citizen's, when first seen. PortalError "forbidden": it is disabled."""
        subject = self._vault.pseudonym("oidc", f"{len(issuer)}:{issuer}:{number}")
        found = self._first(self._table.c.subject == subject)
        if found is None:
            try:
                found = self.create(f"oidc-{subject[:16]}", ["citizen"], now, subject=subject)[0]
            except PortalError:  # made by another request meanwhile
                found = self._first(self._table.c.subject == subject)
        if found is None or found.disabled:
            raise PortalError("forbidden")
        return found

    def update(self, id: str, now: datetime, *, roles: Iterable[str] | None = None, disabled: bool | None = None) -> Account:
        """PortalError "not_found"; "conflict": nobody could administer the portal any more."""
        table = self._table
        with self._database.write(catalogue=False) as connection:
            rows = [_account(row) for row in connection.execute(sa.select(table).with_for_update())]
            found = next((account for account in rows if account.id == id), None)
            if found is None:
                raise PortalError("not_found")
            new = found.roles if roles is None else _roles(roles)
            off = found.disabled if disabled is None else (found.disabled or stamp(now)) if disabled else ""
            others = any(a.id != id and not a.disabled and "administrator" in a.roles for a in rows)
            if not others and "administrator" in found.roles and not found.disabled and (off or "administrator" not in new):
                raise PortalError("conflict", "至少要保留一名可用的管理员。")
            connection.execute(table.update().where(table.c.id == id).values(roles=" ".join(sorted(new)), disabled=off))
        return Account(found.id, found.name, new, found.subject, found.created, off, found.must_change)

    def erase(self, id: str) -> None:
        """Takes the account out of the database, with its logins and keys, for a person who asks for it."""
        with self._database.write(catalogue=False) as connection:
            for table, column in (("logins", "account"), ("keys", "owner"), ("accounts", "id")):
                connection.execute(tables()[table].delete().where(tables()[table].c[column] == id))

    def _write(self, id: str, **values: str) -> None:
        with self._database.write(catalogue=False) as connection:
            connection.execute(self._table.update().where(self._table.c.id == id).values(**values))


def _roles(given: Iterable[str]) -> frozenset[str]:
    """With what every account may."""
    found = frozenset(given) | {"citizen"}
    if unknown := found - set(ROLES):
        raise PortalError("invalid", f"{'、'.join(sorted(unknown))}：没有这种角色。", fields=["roles"])
    return found


def _account(row: Any) -> Account:
    return Account(
        row.id, row.name, frozenset(row.roles.split()), row.subject, row.created, row.disabled, bool(row.must_change)
    )  # fmt: skip
