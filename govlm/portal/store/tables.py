"""The portal's tables, for SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from govlm.hall.catalogue.database import Database
from govlm.hall.catalogue.database import tables as hall_tables
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.tables import library

__all__ = ["REVISIONS", "VERSION", "drop", "put", "revision", "tables", "upgrade"]

VERSION = "portal_version"  # the table in which alembic keeps which migrations were run
REVISIONS = ("p0001",)  # of the portal's tables, in order; the last is what this version of govlm reads and writes

_NUMBERS = ("failed", "turn", "asked", "count", "total", "number")
_COLUMNS = {
    "accounts": (
        "id", "name", "password", "roles", "subject", "created", "disabled", "must_change",
    ),
    "attempts": ("id", "last", "locked_until", "failed"),
    "logins": ("id", "account", "created", "seen", "expires"),
    "keys": ("id", "name", "digest", "scopes", "owner", "created", "expires", "revoked"),
    "feedback": ("id", "session", "rating", "comment_sealed", "at", "turn"),
    "handoffs": (
        "id", "session_sealed", "person", "owner", "status", "clerk", "reason_sealed", "replies_sealed", "created", "updated",
    ),
    "questions": ("id", "text_sealed", "kind", "reason_sealed", "status", "first", "last", "asked"),
    "curated": ("id", "question", "answer", "citations", "by", "at", "active"),
    "imports": ("id", "kind", "name", "status", "report", "by", "at"),
    "switches": ("id", "value", "reason", "by", "at"),
    "usage": ("day", "kind", "name", "count", "total"),
    "audit": ("chain", "number", "at", "actor", "role", "action", "object", "detail", "previous", "digest"),
}  # fmt: skip


@cache
def tables() -> dict[str, Any]:
    """The tables by name, without the prefix `portal_` that they have in the database."""
    sa = library("sqlalchemy", "the portal's database")
    return {
        name: sa.table(f"portal_{name}", *(sa.column(c, sa.BigInteger if c in _NUMBERS else sa.Text) for c in columns))
        for name, columns in _COLUMNS.items()
    }


def put(connection: Any, name: str, key: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Writes the row of that key, whether there is one or not."""
    sa, table = library("sqlalchemy", "the portal's database"), tables()[name]
    update = table.update().where(*(table.c[column] == value for column, value in key.items())).values(**values)
    if connection.execute(update).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(table.insert().values(**key, **values))
    except sa.exc.IntegrityError:  # another worker was first
        connection.execute(update)


def upgrade(database: Database) -> None:
    """Makes the portal's tables, or brings older ones to this version. CatalogueError: they are of a newer govlm."""
    found = revision(database)
    if found is not None and found not in REVISIONS:
        raise CatalogueError(
            f"{database.name}: written by a newer govlm (portal tables {found}, known up to {REVISIONS[-1]}): upgrade govlm"
        )
    if found != REVISIONS[-1]:
        database.upgrade(Path(__file__).with_name("migrations"), version_table=VERSION)


def drop(database: Database) -> list[str]:
    """Drops all tables of govlm, the hall's and the portal's, and no others; returns their names."""
    sa = library("sqlalchemy", "the portal's database")
    ours = {*hall_tables(), "alembic_version", *(table.name for table in tables().values()), VERSION}
    with database.explained(), database.engine.connect() as connection, connection.begin():
        found = sa.MetaData()
        found.reflect(connection, only=lambda name, _: name in ours)
        found.drop_all(connection)
        return sorted(found.tables)


def revision(database: Database) -> str | None:
    """Of the portal's tables; None where there are none."""
    sa = library("sqlalchemy", "the portal's database")
    with database.read() as connection:
        if not sa.inspect(connection).has_table(VERSION):
            return None
        found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION}")).scalar()
    return str(found) if found else None
