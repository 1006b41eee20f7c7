"""The messages of conversations and what was answered, so that a talk is shown again and a message sent twice is taken once.

`value` is encrypted; `session` and `key` are keyed pseudonyms; `name` is the number of the turn.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("session", sa.String(32), primary_key=True, nullable=False),
        sa.Column("name", sa.String(12), primary_key=True, nullable=False),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["session"], ["sessions.session"], ondelete="CASCADE"),
    )
    op.create_index("turns_key", "turns", ["session", "key"])
