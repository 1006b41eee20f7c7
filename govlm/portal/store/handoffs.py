"""Requests to speak to a person: one open at a time for a conversation. What was written is encrypted."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from govlm.hall.hall import Hall
from govlm.hall.protection.sessions import utc
from govlm.portal.store.tables import tables

__all__ = ["Handoff", "HandoffTaken", "Handoffs"]

_MOST = 100  # replies


class HandoffTaken(Exception):
    """It is another clerk's, or closed."""


@dataclass(frozen=True)
class Handoff:
    """status: waiting, taken or closed. clerk: pseudonym of who took it. replies: {"at", "text"} in order. session: of the conversation."""

    id: str
    session: str
    status: str
    clerk: str
    reason: str
    contact: str
    replies: tuple[dict[str, str], ...]
    created: str
    updated: str


class Handoffs:
    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    def clerk(self, who: str) -> str:
        return self._hall.vault.pseudonym("clerk", who)

    def open(self, session: str, person: str, reason: str, contact: str = "", now: datetime | None = None) -> Handoff:
        """Asks for a person; where that is asked for already, it is what is said now. person: who asks."""
        time, table = utc(now or datetime.now().astimezone()), tables()["handoffs"]
        owner = self._owner(session)
        number = secrets.token_hex(16)

        def write(connection: Any) -> str:
            row = connection.execute(table.select().where(table.c.owner == owner, table.c.status != "closed")).first()
            if row is not None:
                if reason or contact:
                    kept = self._asked(row)
                    sealed = self._sealed(row.id, "reason", [reason or kept[0], contact or kept[1]])
                    connection.execute(table.update().where(table.c.id == row.id).values(reason_sealed=sealed, updated=time))
                return str(row.id)
            values = {
                "id": number, "session_sealed": self._sealed(number, "session", session), "owner": owner,
                "person": self._hall.vault.pseudonym("person", person), "status": "waiting", "clerk": "",
                "reason_sealed": self._sealed(number, "reason", [reason, contact]),
                "replies_sealed": self._sealed(number, "replies", []), "created": time, "updated": time,
            }  # fmt: skip
            connection.execute(table.insert().values(values))
            return number

        return self.get(self._hall.writer.submit(write))

    def of(self, session: str) -> Handoff | None:
        """The last one of a conversation."""
        table = tables()["handoffs"]
        query = table.select().where(table.c.owner == self._owner(session)).order_by(table.c.created.desc(), table.c.id)
        with self._hall.store.database.read() as connection:
            row = connection.execute(query.limit(1)).first()
        return self._read(row) if row is not None else None

    def get(self, id: str) -> Handoff:
        """LookupError: there is none."""
        table = tables()["handoffs"]
        with self._hall.store.database.read() as connection:
            row = connection.execute(table.select().where(table.c.id == id)).first()
        if row is None:
            raise LookupError("no such hand-off")
        return self._read(row)

    def every(self, status: str = "", limit: int = 50, offset: int = 0) -> list[Handoff]:
        """The oldest first."""
        table = tables()["handoffs"]
        query = table.select().order_by(table.c.created, table.c.id).limit(limit).offset(offset)
        if status:
            query = query.where(table.c.status == status)
        with self._hall.store.database.read() as connection:
            return [self._read(row) for row in connection.execute(query).all()]

    def change(self, id: str, who: str, status: str, reply: str = "", now: datetime | None = None) -> Handoff:
        """A clerk takes it (status "taken"), answers it, or closes it. LookupError: there is none; HandoffTaken: another clerk has it, or
        it is closed."""
        time, table, me = utc(now or datetime.now().astimezone()), tables()["handoffs"], self.clerk(who)

        def write(connection: Any) -> None:
            row = connection.execute(table.select().where(table.c.id == id)).first()
            if row is None:
                raise LookupError("no such hand-off")
            found = self._read(row)
            if found.status == "closed" or (found.clerk and found.clerk != me):
                raise HandoffTaken
            replies = [*found.replies, {"at": time, "text": reply}] if reply else list(found.replies)
            where = (table.c.id == id, table.c.status == row.status, table.c.clerk == row.clerk, table.c.updated == row.updated)
            values = {
                "status": status, "clerk": me, "updated": time,
                "replies_sealed": self._sealed(id, "replies", replies[-_MOST:]),
            }  # fmt: skip
            if connection.execute(table.update().where(*where).values(values)).rowcount != 1:
                raise HandoffTaken

        self._hall.writer.submit(write)
        return self.get(id)

    def forget(self, connection: Any, *, session: str = "", person: str = "") -> int:
        """Erases those of a conversation, or of a person."""
        table = tables()["handoffs"]
        where = (
            table.c.owner == self._owner(session) if session else table.c.person == self._hall.vault.pseudonym("person", person)
        )
        return int(connection.execute(table.delete().where(where)).rowcount)

    def move(self, connection: Any, person: str, other: str) -> int:
        """Those that `other` asked for are this person's from now on: it was them."""
        table, filed = tables()["handoffs"], self._hall.vault.pseudonym
        mine = table.update().where(table.c.person == filed("person", other)).values(person=filed("person", person))
        return int(connection.execute(mine).rowcount)

    def mine(self, person: str) -> list[Handoff]:
        """Those that a person asked for."""
        table = tables()["handoffs"]
        query = table.select().where(table.c.person == self._hall.vault.pseudonym("person", person)).order_by(table.c.created)
        with self._hall.store.database.read() as connection:
            return [self._read(row) for row in connection.execute(query).all()]

    # ---- rows

    def _owner(self, session: str) -> str:
        return self._hall.vault.pseudonym("session", session)

    def _sealed(self, id: str, name: str, value: Any) -> str:
        return self._hall.vault.encrypt("portal_handoffs", id, f"{name}_sealed", json.dumps(value, ensure_ascii=False))

    def _opened(self, row: Any, name: str) -> Any:
        return json.loads(self._hall.vault.decrypt("portal_handoffs", row.id, f"{name}_sealed", getattr(row, f"{name}_sealed")))

    def _asked(self, row: Any) -> tuple[str, str]:
        reason, contact = self._opened(row, "reason")
        return reason, contact

    def _read(self, row: Any) -> Handoff:
        reason, contact = self._asked(row)
        made = Handoff(
            row.id, self._opened(row, "session"), row.status, row.clerk, reason, contact, (), row.created, row.updated
        )
        return replace(made, replies=tuple(self._opened(row, "replies")))
