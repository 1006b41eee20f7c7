"""The tables of the portal, beside those of the hall in the same database.

Times are ISO texts in UTC. What people wrote is encrypted (`*_sealed`) or masked; persons and sessions appear as keyed pseudonyms only.
"""

import sqlalchemy as sa
from alembic import op

revision = "p0001"
down_revision = None


def upgrade() -> None:
    def key(name: str = "id", length: int = 64) -> sa.Column[str]:
        return sa.Column(name, sa.String(length), primary_key=True, nullable=False)

    def text(*names: str) -> list[sa.Column[str]]:
        return [sa.Column(name, sa.Text, nullable=False) for name in names]

    def number(*names: str) -> list[sa.Column[int]]:
        return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]

    op.create_table(
        "portal_accounts",
        key(),
        sa.Column("name", sa.String(128), nullable=False, unique=True),
        *text("password", "roles", "subject", "created", "disabled", "must_change"),
    )
    op.create_table("portal_attempts", key(), *text("last", "locked_until"), *number("failed"))
    op.create_table("portal_logins", key(), *text("account", "created", "seen", "expires"))
    op.create_table(
        "portal_keys", key(), *text("name", "digest", "scopes", "owner", "created", "expires", "revoked"),
    )  # fmt: skip
    op.create_table(
        "portal_feedback", key(), *text("session", "rating", "comment_sealed", "at"), *number("turn"),
    )  # fmt: skip
    op.create_table(
        "portal_handoffs",
        key(),
        *text("session_sealed", "person", "owner", "status", "clerk", "reason_sealed", "replies_sealed", "created", "updated"),
    )
    op.create_table(
        "portal_questions", key(), *text("text_sealed", "kind", "reason_sealed", "status", "first", "last"), *number("asked"),
    )  # fmt: skip
    op.create_table("portal_curated", key(), *text("question", "answer", "citations", "by", "at", "active"))
    op.create_table("portal_imports", key(), *text("kind", "name", "status", "report", "by", "at"))
    op.create_table("portal_switches", key(), *text("value", "reason", "by", "at"))
    op.create_table("portal_usage", key("day", 10), key("kind", 32), key("name", 128), *number("count", "total"))
    op.create_table(
        "portal_audit",
        key("chain", 32),
        sa.Column("number", sa.BigInteger, primary_key=True, nullable=False, autoincrement=False),
        *text("at", "actor", "role", "action", "object", "detail", "previous", "digest"),
    )
    op.create_index("portal_accounts_subject", "portal_accounts", ["subject"])
    op.create_index("portal_logins_account", "portal_logins", ["account"])
    op.create_index("portal_keys_digest", "portal_keys", ["digest"])
    op.create_index("portal_questions_status", "portal_questions", ["status"])
