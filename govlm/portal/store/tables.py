"""The portal's tables, for SQLAlchemy."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from govlm.hall.catalogue.database import Database
from govlm.hall.catalogue.tables import library

__all__ = ["tables", "upgrade"]

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
    "questions": ("id", "masked", "kind", "reason", "status", "first", "last", "asked"),
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


def upgrade(database: Database) -> None:
    """Makes the portal's tables, or brings older ones to this version."""
    database.upgrade(Path(__file__).with_name("migrations"), version_table="portal_version")
