"""What is kept of a person: consents, a profile, events; and the rights to see all of it and to have it erased.

    people = People(store, vault, writer)
    people.consent(person_id, "profile", "2026-1", now=now)
    people.put_profile(person_id, {"region": "4401", "employment": "失业"}, now=now)
    people.export(person_id)        # 个人信息保护法 art. 45: all of it, as JSON
    people.delete(person_id, now=now)   # art. 47

A person's number is kept nowhere, only its keyed pseudonym; profile values are encrypted; which item somebody looked at is in the clear
beside the pseudonym, since popularity is counted from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any, NamedTuple

from govlm.hall.catalogue.database import tables
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.store import Store
from govlm.hall.catalogue.tables import library
from govlm.hall.protection.sessions import Sessions, utc
from govlm.hall.protection.vault import Vault
from govlm.hall.protection.writer import Writer

__all__ = ["PURPOSES", "Consent", "ConsentError", "Deleted", "Event", "People", "Policy", "parsed"]

PURPOSES = {"handling": "办理事项", "profile": "个性化推荐"}  # what consent is asked for; `text_version` says in which words
_TEXT_VERSION = re.compile(r"[0-9A-Za-z._-]{1,12}")


class ConsentError(CatalogueError):
    """Data that needs a consent which was not given, or was withdrawn."""


class Consent(NamedTuple):
    """Times as they are kept (UTC, ISO); withdrawn "": it holds."""

    purpose: str
    text_version: str
    given: str
    withdrawn: str


class Event(NamedTuple):
    """Something that a person did with an item or document. at: UTC, ISO."""

    kind: str
    code: str
    at: str


@dataclass(frozen=True)
class Policy:
    """Days that each kind of data is kept after its last use. submissions_kept: days that what was handed in must be kept by law, even
    when a person asks to have it erased (the hall's default: none; the file is the authority's)."""

    sessions: int = 30
    submissions: int = 365
    submissions_kept: int = 0
    events: int = 365
    people: int = 730
    consents: int = 1095  # after they were withdrawn: a proof that what was done before was lawful


class Deleted(NamedTuple):
    """erased: rows by table. kept: rows by table, and why in Chinese."""

    erased: dict[str, int]
    kept: dict[str, tuple[int, str]]


class People:
    """Any number of threads and processes may use the people of a store."""

    def __init__(self, store: Store, vault: Vault, writer: Writer) -> None:
        self._database, self._vault, self._writer = store.database, vault, writer
        self._sessions = Sessions(store, vault, writer)
        self._sa = library("sqlalchemy", "the hall's database")

    def filed(self, person_id: str) -> str:
        """The pseudonym that a person is filed under. ValueError: the number is empty."""
        if not person_id:
            raise ValueError("a person needs a number")
        return self._vault.pseudonym("person", person_id)

    # ---- consents

    def consent(self, person_id: str, purpose: str, text_version: str, *, now: datetime) -> None:
        """Keeps that consent was given (art. 13 to 17), to which version of the text. ValueError: unknown purpose, bad version."""
        self._consent(self.filed(person_id), purpose, text_version, now, person=True)

    def consent_session(self, session_id: str, purpose: str, text_version: str, *, now: datetime) -> None:
        """As `consent`, of somebody who is known by the session alone."""
        self._consent(self._sessions.filed(session_id), purpose, text_version, now, person=False)

    def withdraw(self, person_id: str, purpose: str, *, now: datetime) -> None:
        """Consent does not hold any more (art. 15); without that to "profile", the profile is erased."""
        row, table, values = self.filed(person_id), tables()["consents"], tables()["profile_values"]

        def write(connection: Any) -> None:
            where = (table.c.person == row, table.c.purpose == purpose, table.c.withdrawn == "")
            connection.execute(table.update().where(*where).values(withdrawn=utc(now)))
            if purpose == "profile":
                connection.execute(values.delete().where(values.c.person == row))

        self._writer.submit(write)

    def consents(self, person_id: str) -> list[Consent]:
        with self._database.read() as connection:
            return self._consents(connection, self.filed(person_id))

    def require(self, person_id: str, purpose: str) -> None:
        """ConsentError where consent does not hold."""
        with self._database.read() as connection:
            self._required(connection, purpose, self.filed(person_id))

    def require_for_session(self, session_id: str, purpose: str = "handling") -> None:
        """ConsentError where neither the session nor its person has consented."""
        with self._database.read() as connection:
            self.require_for_row(connection, self._sessions.filed(session_id), purpose)

    def require_for_row(self, connection: Any, row: str, purpose: str = "handling") -> None:
        """As `require_for_session`, of the session that is filed under `row`, within a transaction."""
        if connection.execute(_agreed(), {"row": row, "purpose": purpose}).first() is None:
            raise ConsentError(_no_consent(purpose))

    # ---- profile

    def put_profile(self, person_id: str, values: Mapping[str, str], *, now: datetime) -> None:
        """Adds or replaces values, by name; "" takes one out. ConsentError: no consent to "profile"."""
        row, table, time = self.filed(person_id), tables()["profile_values"], utc(now)
        rows = [
            {"person": row, "name": name, "value": self._vault.encrypt("profile_values", row, name, value)}
            for name, value in values.items()
            if value
        ]

        def write(connection: Any) -> None:
            self._required(connection, "profile", row)
            self._seen(connection, row, time)
            connection.execute(table.delete().where(table.c.person == row, table.c.name.in_(list(values))))
            if rows:
                connection.execute(table.insert(), rows)

        self._writer.submit(write)

    def profile(self, person_id: str) -> dict[str, str]:
        """What is known of a person; nothing, where consent does not hold."""
        row = self.filed(person_id)
        with self._database.read() as connection:
            return self._profile(connection, row) if self._holds(connection, "profile", row) else {}

    # ---- events

    def record(self, person_id: str, kind: str, codes: list[str], *, now: datetime) -> bool:
        """Keeps events; False: the person has opted out, nothing was kept."""
        row, time = self.filed(person_id), utc(now)

        def write(connection: Any) -> bool:
            if self._opted_out(connection, row):
                return False
            self._seen(connection, row, time)
            if codes:
                rows = [{"person": row, "kind": kind, "code": code, "at": time} for code in codes]
                connection.execute(tables()["events"].insert(), rows)
            return True

        return self._writer.submit(write)

    def record_some(self, person_id: str, kind: str, choose: Callable[[list[Event]], list[str]], *, now: datetime) -> list[str]:
        """As `record`, for the codes that choose(events) picks within the transaction; returns them. Nothing is kept of one opted out."""
        row, time = self.filed(person_id), utc(now)

        def write(connection: Any) -> list[str]:
            codes = choose(self._events(connection, row))
            if codes and not self._opted_out(connection, row):
                self._seen(connection, row, time)
                rows = [{"person": row, "kind": kind, "code": code, "at": time} for code in codes]
                connection.execute(tables()["events"].insert(), rows)
            return codes

        return self._writer.submit(write)

    def events(self, person_id: str) -> list[Event]:
        """In the order in which they were kept."""
        with self._database.read() as connection:
            return self._events(connection, self.filed(person_id))

    def last_event(self) -> tuple[int, int]:
        """(number of the last event, how many people have opted out): changes when `log` does."""
        events, people = tables()["events"], tables()["people"]
        with self._database.read() as connection:
            last = connection.execute(self._sa.select(self._sa.func.max(events.c.number))).scalar() or 0
            out = self._sa.select(self._sa.func.count()).select_from(people).where(people.c.opted_out == self._sa.true())
            return int(last), int(connection.execute(out).scalar() or 0)

    def log(self, kinds: tuple[str, ...]) -> list[tuple[str, Event]]:
        """(pseudonym, event) of all who have not opted out, for counting."""
        events, people = tables()["events"], tables()["people"]
        query = (
            self._sa.select(events.c.person, events.c.kind, events.c.code, events.c.at)
            .join(people, people.c.person == events.c.person)
            .where(people.c.opted_out == self._sa.false(), events.c.kind.in_(kinds))
            .order_by(events.c.number)
        )
        with self._database.read() as connection:
            return [(row.person, Event(row.kind, row.code, row.at)) for row in connection.execute(query)]

    def opt_out(self, person_id: str, *, now: datetime, out: bool = True) -> None:
        """No more recording and no personal recommendation (art. 24). out=False: opts in again."""
        row, table = self.filed(person_id), tables()["people"]

        def write(connection: Any) -> None:
            self._seen(connection, row, utc(now))
            connection.execute(table.update().where(table.c.person == row).values(opted_out=out))

        self._writer.submit(write)

    def opted_out(self, person_id: str) -> bool:
        with self._database.read() as connection:
            return self._opted_out(connection, self.filed(person_id))

    # ---- rights

    def attach(self, person_id: str, session_id: str, *, now: datetime) -> None:
        """The session, and what is handed in within it, is this person's from now on. CatalogueError: there is no such session, or it is
        another's."""
        row, session, time = self.filed(person_id), self._sessions.filed(session_id), utc(now)
        table, handed = tables()["sessions"], tables()["submissions"]

        def write(connection: Any) -> None:
            where = (table.c.session == session, table.c.person.in_(["", row]))
            if connection.execute(table.update().where(*where).values(person=row)).rowcount != 1:
                raise CatalogueError("no such session, or another person's")
            self._seen(connection, row, time)
            connection.execute(handed.update().where(handed.c.session == session, handed.c.person == "").values(person=row))

        self._writer.submit(write)

    def merge(self, person_id: str, other_id: str, *, now: datetime) -> dict[str, int]:
        """All that is kept of another number is this person's from now on: it was them, before they said who they are. Rows by table.

        What the person has told under this number stays where both told something; who has opted out, or withdrawn a consent after the
        other number gave it, has.
        """
        row, other, known, vault = self.filed(person_id), self.filed(other_id), tables(), self._vault

        def write(connection: Any) -> dict[str, int]:
            people, consents, told = known["people"], known["consents"], known["profile_values"]
            head = connection.execute(people.select().where(people.c.person == other)).first()
            if head is None or row == other:
                return {}
            self._seen(connection, row, utc(now))
            if head.opted_out:
                connection.execute(people.update().where(people.c.person == row).values(opted_out=True))
            last = {entry.purpose: entry.withdrawn for entry in self._consents(connection, row)}
            for purpose, withdrawn in last.items():
                earlier = (consents.c.person == other, consents.c.purpose == purpose, consents.c.given <= withdrawn)
                connection.execute(consents.update().where(*earlier, consents.c.withdrawn == "").values(withdrawn=withdrawn))
            moved: dict[str, int] = {}
            for name in ("consents", "events", "sessions", "submissions"):
                table = known[name]
                if count := connection.execute(table.update().where(table.c.person == other).values(person=row)).rowcount:
                    moved[name] = count
            if self._holds(connection, "profile", row):
                mine = self._profile(connection, row)
                new = {name: value for name, value in self._profile(connection, other).items() if name not in mine}
                rows = [
                    {"person": row, "name": name, "value": vault.encrypt("profile_values", row, name, value)}
                    for name, value in new.items()
                ]
                if rows:
                    connection.execute(told.insert(), rows)
                    moved["profile_values"] = len(rows)
            connection.execute(told.delete().where(told.c.person == other))
            connection.execute(people.delete().where(people.c.person == other))
            return moved

        return self._writer.submit(write)

    def export(self, person_id: str) -> str:
        """All that is kept of a person, as JSON of one state of the database."""
        row, sessions, values = self.filed(person_id), tables()["sessions"], tables()["session_values"]
        people, vault = tables()["people"], self._vault
        with self._database.read() as connection:
            head = connection.execute(people.select().where(people.c.person == row)).mappings().first()
            found: dict[str, Any] = {
                "person": {name: value for name, value in (head or {}).items() if name != "person"},
                "consents": [entry._asdict() for entry in self._consents(connection, row)],
                "profile": self._profile(connection, row),
                "events": [entry._asdict() for entry in self._events(connection, row)],
                "sessions": [],
            }
            for entry in connection.execute(
                sessions.select().where(sessions.c.person == row).order_by(sessions.c.created)
            ).all():
                kept = connection.execute(
                    values.select().where(values.c.session == entry.session).order_by(values.c.name)
                ).all()
                found["sessions"].append(
                    {
                        "created": entry.created,
                        "seen": entry.seen,
                        "state": json.loads(vault.decrypt("sessions", entry.session, "state", entry.state)),
                        "values": {v.name: vault.decrypt("session_values", entry.session, v.name, v.value) for v in kept},
                        "consents": [consent._asdict() for consent in self._consents(connection, entry.session)],
                        "turns": [asdict(turn) for turn in self._sessions.read_exchanges(connection, entry.session)],
                    }
                )
            handed = self._sessions.read_submissions(connection, tables()["submissions"].c.person == row)
            found["submissions"] = [asdict(entry) for entry in handed]
        return json.dumps(found, ensure_ascii=False, indent=1)

    def delete(self, person_id: str, *, now: datetime, policy: Policy | None = None) -> Deleted:
        """Erases all that is kept of a person but what was handed in and must be kept by law; tells what it did."""
        row, policy, known = self.filed(person_id), policy or Policy(), tables()
        must = utc(now - timedelta(days=policy.submissions_kept))
        handed, sessions = known["submissions"], known["sessions"]

        def write(connection: Any) -> Deleted:
            def erase(name: str, *where: Any) -> None:
                if count := connection.execute(known[name].delete().where(*where)).rowcount:
                    erased[name] = erased.get(name, 0) + count

            erased: dict[str, int] = {}
            mine = self._sa.select(sessions.c.session).where(sessions.c.person == row)
            erase("consents", known["consents"].c.person.in_(mine))
            for name in ("session_values", "turns"):
                erase(name, known[name].c.session.in_(mine))
            due = self._sa.select(handed.c.id).where(handed.c.person == row, handed.c.at <= must)
            erase("submission_values", known["submission_values"].c.id.in_(due))
            erase("submissions", handed.c.person == row, handed.c.at <= must)
            for name in ("sessions", "events", "profile_values", "consents", "people"):
                erase(name, known[name].c.person == row)
            left = connection.execute(self._sa.select(self._sa.func.count()).where(handed.c.person == row)).scalar()
            reason = f"已提交的申请依法须保存{policy.submissions_kept}天，期满后删除"
            return Deleted(erased, {"submissions": (int(left), reason)} if left else {})

        return self._writer.submit(write)

    def retention(self, now: datetime, policy: Policy | None = None) -> dict[str, int]:
        """Erases what is older than the policy says; rows by table. What a person has dismissed is remembered as long as the person."""
        policy, known, sa = policy or Policy(), tables(), self._sa

        def before(days: int) -> str:
            return utc(now - timedelta(days=days))

        def write(connection: Any) -> dict[str, int]:
            def erase(name: str, *where: Any) -> None:
                if count := connection.execute(known[name].delete().where(*where)).rowcount:
                    erased[name] = erased.get(name, 0) + count

            erased: dict[str, int] = {}
            sessions, handed, events, people = known["sessions"], known["submissions"], known["events"], known["people"]
            old = sa.select(sessions.c.session).where(sessions.c.seen < before(policy.sessions))
            erase("consents", known["consents"].c.person.in_(old))
            for name in ("session_values", "turns"):
                erase(name, known[name].c.session.in_(old))
            erase("sessions", sessions.c.seen < before(policy.sessions))
            limit = before(max(policy.submissions, policy.submissions_kept))
            erase("submission_values", known["submission_values"].c.id.in_(sa.select(handed.c.id).where(handed.c.at < limit)))
            erase("submissions", handed.c.at < limit)
            erase("events", events.c.at < before(policy.events), events.c.kind != "dismissed")
            gone = sa.select(people.c.person).where(people.c.seen < before(policy.people))
            for name in ("events", "profile_values", "consents"):
                erase(name, known[name].c.person.in_(gone))
            # That somebody has opted out is never forgotten.
            erase("people", people.c.seen < before(policy.people), people.c.opted_out == sa.false())
            consents = known["consents"]
            erase("consents", consents.c.withdrawn != "", consents.c.withdrawn < before(policy.consents))
            return erased

        return self._writer.submit(write)

    # ---- rows

    def _consent(self, row: str, purpose: str, text_version: str, now: datetime, person: bool) -> None:
        if purpose not in PURPOSES:
            raise ValueError(f"purpose {purpose!r}: unknown; consent is for {', '.join(PURPOSES)}")
        if not _TEXT_VERSION.fullmatch(text_version):
            raise ValueError("text_version: 1 to 12 letters, digits or . _ -, like 2026-1")
        values = {"person": row, "purpose": purpose, "text_version": text_version, "given": utc(now), "withdrawn": ""}

        def write(connection: Any) -> None:
            if person:
                self._seen(connection, row, utc(now))
            connection.execute(tables()["consents"].insert().values(values))

        self._writer.submit(write)

    def _consents(self, connection: Any, row: str) -> list[Consent]:
        table = tables()["consents"]
        found = connection.execute(table.select().where(table.c.person == row).order_by(table.c.number))
        return [Consent(entry.purpose, entry.text_version, entry.given, entry.withdrawn) for entry in found]

    def _holds(self, connection: Any, purpose: str, *rows: str) -> bool:
        return any(
            entry.purpose == purpose and not entry.withdrawn for row in rows for entry in self._consents(connection, row)
        )

    def _required(self, connection: Any, purpose: str, *rows: str) -> None:
        if not self._holds(connection, purpose, *rows):
            raise ConsentError(_no_consent(purpose))

    def _profile(self, connection: Any, row: str) -> dict[str, str]:
        table = tables()["profile_values"]
        found = connection.execute(table.select().where(table.c.person == row).order_by(table.c.name)).all()
        return {entry.name: self._vault.decrypt("profile_values", row, entry.name, entry.value) for entry in found}

    def _events(self, connection: Any, row: str) -> list[Event]:
        table = tables()["events"]
        found = connection.execute(table.select().where(table.c.person == row).order_by(table.c.number))
        return [Event(entry.kind, entry.code, entry.at) for entry in found]

    def _opted_out(self, connection: Any, row: str) -> bool:
        table = tables()["people"]
        return bool(connection.execute(self._sa.select(table.c.opted_out).where(table.c.person == row)).scalar())

    def _seen(self, connection: Any, row: str, time: str) -> None:
        """The person's row, made where there is none."""
        table = tables()["people"]
        latest = self._sa.case((table.c.seen < time, time), else_=table.c.seen)
        if not connection.execute(table.update().where(table.c.person == row).values(seen=latest)).rowcount:
            try:
                with connection.begin_nested():
                    connection.execute(table.insert().values(person=row, created=time, seen=time, opted_out=False))
            except self._sa.exc.IntegrityError:  # another process was first
                pass


def _no_consent(purpose: str) -> str:
    return f"no consent to {purpose!r} ({PURPOSES.get(purpose, '?')}); ask for it, and keep it with People.consent"


@cache
def _agreed() -> Any:
    """A consent that holds, of a session or of its person; made once, for every turn may ask."""
    sa, consents, sessions = library("sqlalchemy", "the hall's database"), tables()["consents"], tables()["sessions"]
    row = sa.bindparam("row")
    person = sa.select(sessions.c.person).where(sessions.c.session == row, sessions.c.person != "")
    whose = sa.or_(consents.c.person == row, consents.c.person.in_(person))
    held = (whose, consents.c.purpose == sa.bindparam("purpose"), consents.c.withdrawn == "")
    return sa.select(consents.c.number).where(*held).limit(1)


def parsed(at: str) -> datetime:
    """A time as it is kept."""
    return datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
