"""Conversations that survive: each turn is one transaction, and a turn that another has overtaken is refused.

    sessions = Sessions(store, vault, writer)
    saved = sessions.load(session_id)                                       # version 0 and state None: a new one
    version = sessions.save(session_id, saved.version, state, values, now=now)

Values are encrypted one by one, the state and a submission's key as a whole; the session is filed under a pseudonym of its number, so that
who reads the database can neither read nor take over a conversation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any

from govlm.hall import privacy
from govlm.hall.catalogue.database import tables
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.store import Store
from govlm.hall.catalogue.tables import library
from govlm.hall.protection.vault import Vault
from govlm.hall.protection.writer import Writer

if TYPE_CHECKING:
    from govlm.hall.protection.people import People

__all__ = ["Exchange", "Saved", "Sessions", "StaleSession", "Submission", "utc"]


@cache
def _statements() -> dict[str, Any]:
    """What every turn asks of the database; made once, for making a statement takes longer than running it."""
    sa, known = library("sqlalchemy", "the hall's database"), tables()
    sessions, kept, turns, row = known["sessions"], known["session_values"], known["turns"], sa.bindparam("row")
    new = {name: sa.bindparam(name) for name in ("version", "state", "seen")}
    nothing = sa.literal("", sa.Text)
    head = sa.select(sessions.c.version, nothing.label("name"), sessions.c.state.label("value"), nothing.label("at"))
    values = sa.select(sa.literal(0, sa.Integer), kept.c.name, kept.c.value, nothing)
    turn = sa.select(sa.literal(-1, sa.Integer), turns.c.name, turns.c.value, turns.c.at)
    where = (sessions.c.session == row, sessions.c.version == sa.bindparam("loaded"))
    parts = head.where(sessions.c.session == row), values.where(kept.c.session == row)
    return {
        "load": sa.union_all(*parts),
        "load, and a turn": sa.union_all(*parts, turn.where(turns.c.session == row, turns.c.key == sa.bindparam("key"))),
        "keep state": sessions.update().where(*where).values(new),
        "forget values": kept.delete().where(kept.c.session == row),
        "keep values": kept.insert(),
        "keep turn": turns.insert(),
    }


class StaleSession(CatalogueError):
    """The session was saved by another turn since it was loaded; load it again."""


@dataclass(frozen=True)
class Submission:
    """What was handed in. key: names it, the same for a repeated attempt, so that it is written once."""

    key: str
    item: str
    item_version: str
    form: str
    form_version: str
    values: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Exchange:
    """A message and what was answered. number: of the turn, from 1. key: named by the client, the same for a repeated attempt; ""
    where it names none. at: as of `utc`, "" before it is kept."""

    number: int
    message: str = field(repr=False)
    reply: Mapping[str, Any] = field(repr=False)
    key: str = ""
    at: str = ""


@dataclass(frozen=True)
class Saved:
    """version: 0, and state None, where there is no such session yet. values: what the citizen has given, by field. exchange: the turn
    that bears the client's key that was asked for, where there is one."""

    version: int
    state: dict[str, Any] | None
    values: dict[str, str]
    exchange: Exchange | None = None


def utc(now: datetime) -> str:
    """As times are kept: 2026-03-05T08:00:00.000000Z; a time without a zone is of the machine's. Texts sort as times do."""
    return now.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Sessions:
    """Any number of threads and processes may use the sessions of a store."""

    def __init__(self, store: Store, vault: Vault, writer: Writer, people: People | None = None) -> None:
        """people: where it is given, an identity number is only kept after consent, of the session or its person (ConsentError)."""
        self._database, self._vault, self._writer, self._people = store.database, vault, writer, people
        self._sa = library("sqlalchemy", "the hall's database")

    def load(self, session_id: str, key: str = "") -> Saved:
        """key: a client's, of the turn that is wanted with it. VaultError: the keys are not those that it was saved with."""
        row = self.filed(session_id)
        what, asked = ("load, and a turn", {"key": self._keyed(row, key)}) if key else ("load", {})
        rows = self._database.look(_statements()[what], {"row": row, **asked})  # (version, name, value, at)
        head = next((found for found in rows if found[0] > 0), None)
        if head is None:
            return Saved(0, None, {})
        state = json.loads(self._vault.decrypt("sessions", row, "state", head[2]))
        kept = dict(sorted((name, value) for version, name, value, _ in rows if version == 0))
        said = (self._exchange(row, *found) for version, *found in rows if version < 0)
        return Saved(head[0], state, self._vault.decrypt_all("session_values", row, kept), next(said, None))

    def save(
        self,
        session_id: str,
        version: int,
        state: Mapping[str, Any],
        values: Mapping[str, str],
        *,
        now: datetime,
        submission: Submission | None = None,
        exchange: Exchange | None = None,
    ) -> int:
        """One turn in one transaction: the state, all the values (those that are not among them are forgotten), a submission, and what
        was said.

        version: that was loaded. Returns the new one once it is on the disk. StaleSession: another turn was faster; ConsentError: an
        identity number without consent; CatalogueError: the disk is full, …. Nothing of the turn was kept then.
        """
        row, time = self.filed(session_id), utc(now)
        handed = submission.values.values() if submission else ()
        identified = self._people is not None and any(
            span.kind == "identity_card" for text in (*values.values(), *handed) for span in privacy.find(text)
        )
        sealed = self._vault.encrypt("sessions", row, "state", json.dumps(state, ensure_ascii=False))
        kept = self._vault.encrypt_all("session_values", row, values)
        rows = [{"session": row, "name": name, "value": value} for name, value in kept.items()]
        handed_in = self._sealed(submission) if submission else None
        said = self._said(row, exchange, time) if exchange else None

        def write(connection: Any) -> None:
            if identified and self._people is not None:  # within the transaction: a consent that was just withdrawn is seen
                self._people.require_for_row(connection, row)
            self._write(connection, row, version, sealed, time)
            if version:  # a new one has none
                self._database.run(connection, _statements()["forget values"], {"row": row})
            self._database.run(connection, _statements()["keep values"], *rows)
            if handed_in:
                self._hand_in(connection, row, time, *handed_in)
            if said:
                self._database.run(connection, _statements()["keep turn"], said)

        self._writer.submit(write)
        return version + 1

    def submissions(self, session_id: str) -> list[Submission]:
        """What was handed in within a session, in order; also after `forget`."""
        with self._database.read() as connection:
            return self.read_submissions(connection, tables()["submissions"].c.session == self.filed(session_id))

    def exchanges(self, session_id: str, after: int = 0) -> list[Exchange]:
        """What was said in a session, in order, behind turn number `after`."""
        with self._database.read() as connection:
            return self.read_exchanges(connection, self.filed(session_id), tables()["turns"].c.name > f"{after:012d}")

    def forget(self, session_id: str) -> bool:
        """Erases the session, its values and its consents; False: there was none. What was handed in stays as long as retention says."""
        row = self.filed(session_id)
        sessions, consents = tables()["sessions"], tables()["consents"]

        def write(connection: Any) -> bool:
            connection.execute(consents.delete().where(consents.c.person == row))
            return bool(connection.execute(sessions.delete().where(sessions.c.session == row)).rowcount)

        return self._writer.submit(write)

    # ---- rows

    def _keyed(self, row: str, key: str) -> str:
        return self._vault.pseudonym("turn", f"{row} {key}") if key else ""

    def _said(self, row: str, exchange: Exchange, time: str) -> dict[str, str]:
        name = f"{exchange.number:012d}"
        value = json.dumps({"message": exchange.message, "reply": exchange.reply, "key": exchange.key}, ensure_ascii=False)
        sealed = self._vault.encrypt("turns", row, name, value)
        return {"session": row, "name": name, "key": self._keyed(row, exchange.key), "value": sealed, "at": time}

    def read_exchanges(self, connection: Any, row: str, *where: Any) -> list[Exchange]:
        """The turns of a session that is filed under `row`."""
        table = tables()["turns"]
        query = self._sa.select(table.c.name, table.c.value, table.c.at).where(table.c.session == row, *where)
        found = connection.execute(query.order_by(table.c.name)).all()
        return [self._exchange(row, name, value, at) for name, value, at in found]

    def _exchange(self, row: str, name: str, value: str, at: str) -> Exchange:
        return Exchange(int(name), at=at, **json.loads(self._vault.decrypt("turns", row, name, value)))

    def filed(self, session_id: str) -> str:
        """The pseudonym that a session is filed under. ValueError: the number is empty."""
        if not session_id:
            raise ValueError("a session needs a number that cannot be guessed, like secrets.token_urlsafe()")
        return self._vault.pseudonym("session", session_id)

    def read_submissions(self, connection: Any, where: Any) -> list[Submission]:
        table, kept = tables()["submissions"], tables()["submission_values"]
        found = connection.execute(table.select().where(where).order_by(table.c.at, table.c.id)).all()
        made = []
        for head in found:
            query = self._sa.select(kept.c.name, kept.c.value).where(kept.c.id == head.id).order_by(kept.c.name)
            values = {
                name: self._vault.decrypt("submission_values", head.id, name, value)
                for name, value in connection.execute(query)
            }
            key = self._vault.decrypt("submissions", head.id, "key", head.key)
            made.append(Submission(key, head.item, head.item_version, head.form, head.form_version, values))
        return made

    def _write(self, connection: Any, row: str, version: int, state: str, time: str) -> None:
        table, stale = tables()["sessions"], StaleSession("the session was saved by another turn meanwhile; load it again")
        if version == 0:
            values = {"session": row, "person": "", "version": 1, "state": state, "created": time, "seen": time}
            try:
                with connection.begin_nested():
                    connection.execute(table.insert().values(values))
            except self._sa.exc.IntegrityError:
                raise stale from None
            return
        new = {"row": row, "loaded": version, "version": version + 1, "state": state, "seen": time}
        if self._database.run(connection, _statements()["keep state"], new) != 1:
            raise stale

    def _sealed(self, submission: Submission) -> tuple[dict[str, Any], list[dict[str, str]]]:
        if not submission.key:
            raise ValueError("a submission needs a key, the same for a repeated attempt")
        number = self._vault.pseudonym("submission", submission.key)
        head = {
            "id": number,
            "key": self._vault.encrypt("submissions", number, "key", submission.key),
            "item": submission.item,
            "item_version": submission.item_version,
            "form": submission.form,
            "form_version": submission.form_version,
        }
        values = submission.values.items()
        return head, [
            {"id": number, "name": name, "value": self._vault.encrypt("submission_values", number, name, value)}
            for name, value in values
        ]

    def _hand_in(self, connection: Any, row: str, time: str, head: dict[str, Any], values: list[dict[str, str]]) -> None:
        table, sessions = tables()["submissions"], tables()["sessions"]
        person = connection.execute(self._sa.select(sessions.c.person).where(sessions.c.session == row)).scalar() or ""
        try:
            with connection.begin_nested():
                connection.execute(table.insert().values(head | {"session": row, "person": person, "at": time}))
        except self._sa.exc.IntegrityError:  # handed in already: by an attempt whose answer was lost
            return
        if values:
            connection.execute(tables()["submission_values"].insert(), values)
