"""What people say of answers: one rating a turn, the last one counts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from govlm.hall.hall import Hall
from govlm.hall.protection.sessions import utc
from govlm.portal.store.tables import tables

__all__ = ["forget", "of_sessions", "put"]


def put(hall: Hall, session: str, turn: int, rating: Literal["up", "down"], comment: str, now: datetime | None = None) -> None:
    """Keeps a rating of a turn, in place of an earlier one."""
    owner, table = hall.vault.pseudonym("session", session), tables()["feedback"]
    row = hall.vault.pseudonym("feedback", f"{session} {turn}")
    values = {
        "session": owner, "rating": rating, "comment_sealed": hall.vault.encrypt("portal_feedback", row, "comment_sealed", comment),
        "at": utc(now or datetime.now().astimezone()), "turn": turn,
    }  # fmt: skip

    def write(connection: Any) -> None:
        if not connection.execute(table.update().where(table.c.id == row).values(values)).rowcount:
            connection.execute(table.insert().values(id=row, **values))

    hall.writer.submit(write)


def of_sessions(hall: Hall, connection: Any, sessions: Any) -> list[dict[str, Any]]:
    """sessions: pseudonyms, or a query of them."""
    table = tables()["feedback"]
    found = connection.execute(table.select().where(table.c.session.in_(sessions)).order_by(table.c.at)).all()
    return [
        {
            "turn": row.turn, "rating": row.rating, "at": row.at,
            "comment": hall.vault.decrypt("portal_feedback", row.id, "comment_sealed", row.comment_sealed),
        }
        for row in found
    ]  # fmt: skip


def forget(connection: Any, sessions: Any) -> int:
    """As of `of_sessions`: erases them."""
    table = tables()["feedback"]
    return int(connection.execute(table.delete().where(table.c.session.in_(sessions))).rowcount)
