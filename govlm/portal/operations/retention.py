"""Erases what has been kept long enough, once a day, in one worker.

Who erases is agreed on in the database: the row "job:retention" of portal_switches tells when it was done last, and whoever moves it forward
does it. The audit is erased by whole chains (a day of a worker), after an anchor that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Any

from govlm.hall.catalogue.tables import library
from govlm.hall.hall import Hall
from govlm.hall.protection.people import Policy as HallPolicy
from govlm.hall.protection.sessions import utc
from govlm.portal.audit.anchors import Anchors
from govlm.portal.audit.verify import KEPT
from govlm.portal.operations.periodic import Periodic
from govlm.portal.store.tables import tables

__all__ = ["Policy", "Retention", "erase"]

_JOB = "job:retention"
_EVERY = timedelta(hours=24)
_LOOK = 600.0  # seconds between two looks whether it is due


@dataclass(frozen=True)
class Policy:
    """Days that each kind of data is kept after its last use; those of the hall are explained in govlm.hall.protection.people.Policy.
    audit: 180 at least."""

    sessions: int = 30
    submissions: int = 365
    submissions_kept: int = 0
    events: int = 365
    people: int = 730
    consents: int = 1095
    feedback: int = 365
    handoffs: int = 365
    questions: int = 365
    usage: int = 1095
    audit: int = 365

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Policy:
        """From a setting like {"sessions": "14", "audit": "730"}. ValueError: an unknown kind, no number, or an audit kept too short."""
        known = {entry.name for entry in fields(cls)}
        for name, days in given.items():
            if name not in known:
                raise ValueError(f"retention of {name!r}: unknown; there are {', '.join(sorted(known))}")
            if not (str(days).isdecimal() and str(days).isascii()):
                raise ValueError(f"retention of {name}: {days!r} is no number of days")
        policy = cls(**{name: int(days) for name, days in given.items()})
        if policy.audit < KEPT:
            raise ValueError(f"retention of audit: {policy.audit} days; the law asks for {KEPT} at least")
        return policy

    @property
    def hall(self) -> HallPolicy:
        return HallPolicy(**{entry.name: getattr(self, entry.name) for entry in fields(HallPolicy)})


class Retention:
    """Of a worker: looks every ten minutes whether it is its turn. clock: gives the time."""

    def __init__(self, hall: Hall, anchors: Anchors, policy: Policy, clock: Callable[[], datetime] | None = None) -> None:
        self._hall, self._anchors, self._policy = hall, anchors, policy
        self._clock = clock or (lambda: datetime.now(timezone.utc))
        self._periodic = Periodic("retention", _LOOK, self._look)

    def close(self) -> None:
        self._periodic.close()

    def _look(self) -> None:
        now = self._clock()
        if claim(self._hall, now):
            erase(self._hall, self._anchors, self._policy, now)


def claim(hall: Hall, now: datetime) -> bool:
    """Whether it is due, and this worker the one to do it."""
    table, sa = tables()["switches"], library("sqlalchemy", "retention")

    def write(connection: Any) -> bool:
        due = (table.c.id == _JOB, table.c.at <= utc(now - _EVERY))
        if connection.execute(table.update().where(*due).values(at=utc(now))).rowcount:
            return True
        if connection.execute(sa.select(table.c.id).where(table.c.id == _JOB)).first():
            return False
        try:
            with connection.begin_nested():
                connection.execute(table.insert().values(id=_JOB, value="", reason="", by="", at=utc(now)))
        except sa.exc.IntegrityError:
            return False
        return True

    return hall.writer.submit(write)


def erase(hall: Hall, anchors: Anchors, policy: Policy, now: datetime) -> dict[str, int]:
    """Erases what is older than the policy says; rows by table."""
    known = tables()

    def before(days: int) -> str:
        return utc(now - timedelta(days=days))

    def write(connection: Any) -> dict[str, int]:
        erased: dict[str, int] = {}
        for name, column, limit in (
            ("feedback", "at", before(policy.feedback)), ("handoffs", "updated", before(policy.handoffs)),
            ("questions", "last", before(policy.questions)), ("logins", "expires", utc(now)),
            ("usage", "day", before(policy.usage)[:10]),
        ):  # fmt: skip
            table = known[name]
            if count := connection.execute(table.delete().where(table.c[column] < limit)).rowcount:
                erased[f"portal_{name}"] = count
        return erased

    found = hall.people.retention(now, policy.hall)
    found |= hall.writer.submit(write)
    if count := _erase_audit(hall, anchors, before(max(policy.audit, KEPT)), now):
        found["portal_audit"] = count
    return found


def _erase_audit(hall: Hall, anchors: Anchors, limit: str, now: datetime) -> int:
    """Whole chains whose last entry is older; each is anchored as erased first."""
    table, sa = tables()["audit"], library("sqlalchemy", "retention")
    # The end must have been anchored after the last entry: `verify` counts the days from there.
    query = (
        sa.select(table.c.chain, sa.func.max(table.c.number)).group_by(table.c.chain).having(sa.func.max(table.c.at) < limit)
    )
    with hall.store.database.read() as connection:
        chains = [(row[0], int(row[1])) for row in connection.execute(query) if row[0].endswith(f"-{anchors.mark}")]
    anchored = {line.chain: line.at for line in anchors.read()[0] if line.event != "erased"} if chains else {}
    count = 0
    for chain, number in chains:
        if anchored.get(chain, "") >= limit:
            continue
        anchors.append("erased", chain, number, "", now)
        count += hall.writer.submit(lambda c, chain=chain: c.execute(table.delete().where(table.c.chain == chain)).rowcount)  # type: ignore[misc]
    return count
