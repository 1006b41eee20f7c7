"""The tables of people: sessions, what was handed in, profiles, events and consents.

No column holds a raw person or session number: `person`, `session` and `id` are keyed pseudonyms, `value`, `state` and `key` are encrypted
(govlm.hall.protection.vault). Times are ISO texts in UTC.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    def pseudonym(name: str, primary_key: bool = False) -> sa.Column[str]:
        return sa.Column(name, sa.String(32), primary_key=primary_key, nullable=False)

    def time(name: str) -> sa.Column[str]:
        return sa.Column(name, sa.String(32), nullable=False)

    def text(name: str) -> sa.Column[str]:
        return sa.Column(name, sa.Text, nullable=False)

    def of(parent: str, name: str) -> sa.ForeignKeyConstraint:
        return sa.ForeignKeyConstraint([name], [parent], ondelete="CASCADE")

    op.create_table(
        "people",
        pseudonym("person", primary_key=True),
        time("created"),
        time("seen"),
        sa.Column("opted_out", sa.Boolean, nullable=False),
    )
    op.create_table(
        "sessions",
        pseudonym("session", primary_key=True),
        pseudonym("person"),
        sa.Column("version", sa.Integer, nullable=False),
        text("state"),
        time("created"),
        time("seen"),
    )
    op.create_table(
        "session_values",
        pseudonym("session", primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        text("value"),
        of("sessions.session", "session"),
    )
    op.create_table(
        "submissions",
        pseudonym("id", primary_key=True),
        pseudonym("session"),
        pseudonym("person"),
        text("key"),
        text("item"),
        sa.Column("item_version", sa.Text, nullable=False),
        text("form"),
        text("form_version"),
        time("at"),
    )
    op.create_table(
        "submission_values",
        pseudonym("id", primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        text("value"),
        of("submissions.id", "id"),
    )
    op.create_table(
        "profile_values",
        pseudonym("person", primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        text("value"),
        of("people.person", "person"),
    )
    op.create_table(
        "events",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        pseudonym("person"),
        sa.Column("kind", sa.String(16), nullable=False),
        text("code"),
        time("at"),
        of("people.person", "person"),
    )
    op.create_table(
        "consents",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        pseudonym("person"),  # or the session, of one who has given no name
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("text_version", sa.String(12), nullable=False),
        time("given"),
        sa.Column("withdrawn", sa.String(32), nullable=False),
    )
    for table, column in (
        ("sessions", "person"),
        ("submissions", "session"),
        ("submissions", "person"),
        ("events", "person"),
        ("consents", "person"),
    ):
        op.create_index(f"{table}_{column}", table, [column])
