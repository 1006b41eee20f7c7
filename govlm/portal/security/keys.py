"""API keys for other systems: `govlm_` and 43 random characters, of which the database has the SHA-256.

A key acts for the account that it was made for, with that account's roles as they are now, within the key's scopes.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from govlm.hall.catalogue.database import Database
from govlm.portal.errors import PortalError
from govlm.portal.security.accounts import Account, _account, stamp
from govlm.portal.store.tables import tables

__all__ = ["PREFIX", "SCOPES", "Key", "Keys"]

PREFIX = "govlm_"
SCOPES = ("chat", "catalogue", "models", "push", "admin")


@dataclass(frozen=True)
class Key:
    """owner: an account's id. expires, revoked: when, or ""."""

    id: str
    name: str
    scopes: frozenset[str]
    owner: str
    created: str
    expires: str
    revoked: str


class Keys:
    def __init__(self, database: Database) -> None:
        self._database, self._table, self._accounts = database, tables()["keys"], tables()["accounts"]

    def create(self, name: str, scopes: Iterable[str], owner: str, now: datetime, days: int | None = None) -> tuple[Key, str]:
        """The key and its text, which is told this once. owner: an account's id. days: until it expires (None: never)."""
        given = frozenset(scopes)
        if not given or given - set(SCOPES):
            raise PortalError("invalid", f"权限范围应是{'、'.join(SCOPES)}中的一种或几种。", fields=["scopes"])
        text = PREFIX + secrets.token_urlsafe(32)
        expires = "" if days is None else stamp(now + timedelta(days=days))
        key = Key(secrets.token_hex(8), name, given, owner, stamp(now), expires, "")
        with self._database.write(catalogue=False) as connection:
            connection.execute(
                self._table.insert().values(
                    id=key.id, name=name, digest=_digest(text), scopes=" ".join(sorted(given)), owner=owner,
                    created=key.created, expires=expires, revoked="",
                )
            )  # fmt: skip
        return key, text

    def find(self, text: str, now: datetime) -> tuple[Key, Account] | None:
        """The key of this text and the account that it acts for. None: it was never made, has ended, or its account is disabled."""
        table, accounts = self._table, self._accounts
        columns = [
            table.c[name].label(f"key_{name}") for name in ("id", "name", "scopes", "owner", "created", "expires", "revoked")
        ]
        question = sa.select(accounts, *columns).join(table, table.c.owner == accounts.c.id)
        with self._database.read() as connection:
            row = connection.execute(question.where(table.c.digest == _digest(text))).first()
        if row is None or row.disabled or row.key_revoked or (row.key_expires and row.key_expires <= stamp(now)):
            return None
        return _key(row, "key_"), _account(row)

    def all(self) -> list[Key]:
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(sa.select(self._table).order_by(self._table.c.created))]

    def revoke(self, id: str, now: datetime) -> None:
        """PortalError "not_found"."""
        table = self._table
        with self._database.write(catalogue=False) as connection:
            if not connection.execute(sa.select(table.c.id).where(table.c.id == id)).first():
                raise PortalError("not_found")
            connection.execute(table.update().where(table.c.id == id, table.c.revoked == "").values(revoked=stamp(now)))


def _key(row: Any, prefix: str = "") -> Key:
    def of(name: str) -> str:
        return str(getattr(row, prefix + name))

    return Key(of("id"), of("name"), frozenset(of("scopes").split()), of("owner"), of("created"), of("expires"), of("revoked"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
