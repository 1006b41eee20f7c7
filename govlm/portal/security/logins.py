"""Logins: a random token in a cookie, of which the database has the SHA-256. It ends when it is not used, when it is old, or at logout."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from govlm.hall.catalogue.database import Database
from govlm.portal.security.accounts import Account, _account, stamp
from govlm.portal.store.tables import tables

__all__ = ["COOKIE", "Login", "Logins"]

COOKIE = "govlm_login"
_TOUCH = timedelta(seconds=60)  # how exactly the last use is known: not every request writes


@dataclass(frozen=True)
class Login:
    """id: digest of the token."""

    id: str
    account: Account


class Logins:
    """idle, life: seconds until an unused login, and any, ends."""

    def __init__(self, database: Database, idle: int, life: int) -> None:
        self._database, self._table, self._accounts = database, tables()["logins"], tables()["accounts"]
        self._idle, self._life = timedelta(seconds=idle), timedelta(seconds=life)

    def begin(self, account: Account, now: datetime, old: str = "") -> str:
        """A new token for the cookie. old: the token that the browser had until now; it ends, so that nobody can plant one."""
        token = secrets.token_urlsafe(32)
        table = self._table
        with self._database.write(catalogue=False) as connection:
            connection.execute(table.delete().where(sa.or_(table.c.id == _digest(old), table.c.expires <= stamp(now))))
            connection.execute(
                table.insert().values(
                    id=_digest(token), account=account.id, created=stamp(now), seen=stamp(now), expires=stamp(now + self._life)
                )
            )
        return token

    def find(self, token: str, now: datetime) -> Login | None:
        """None: there is no such login, or it has ended, or its account may not log in any more."""
        table, accounts, id = self._table, self._accounts, _digest(token)
        question = sa.select(accounts, table.c.seen, table.c.expires).join(table, table.c.account == accounts.c.id)
        with self._database.read() as connection:
            row = connection.execute(question.where(table.c.id == id)).first()
        if row is None or row.disabled or row.expires <= stamp(now) or row.seen <= stamp(now - self._idle):
            return None
        if row.seen <= stamp(now - min(_TOUCH, self._idle / 2)):
            with self._database.write(catalogue=False) as connection:
                connection.execute(table.update().where(table.c.id == id).values(seen=stamp(now)))
        return Login(id, _account(row))

    def end(self, token: str) -> None:
        with self._database.write(catalogue=False) as connection:
            connection.execute(self._table.delete().where(self._table.c.id == _digest(token)))

    def end_all(self, account: str) -> None:
        """Those of an account: its password or its rights were changed."""
        with self._database.write(catalogue=False) as connection:
            connection.execute(self._table.delete().where(self._table.c.account == account))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
