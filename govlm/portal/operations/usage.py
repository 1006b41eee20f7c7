"""Counts of a day, for the administrator's plots: business types, satisfaction, hand-offs, refusals, latency. Nobody's data is in them.

portal.usage.count("business", "社会救助")
portal.usage.count("latency", "/v1/sessions/{id}/turns", total=38)      # milliseconds; the mean is total / count
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from govlm.hall.catalogue.database import Database
from govlm.hall.catalogue.tables import library
from govlm.hall.privacy import mask
from govlm.hall.protection.writer import Writer
from govlm.portal.operations.periodic import Periodic
from govlm.portal.store.tables import tables

__all__ = ["Count", "Usage"]

_SECONDS = 2.0  # between two writes


@lru_cache(maxsize=1024)  # the names are few
def _plain(name: str) -> str:
    return mask(name)[:128]


@dataclass(frozen=True)
class Count:
    """Of a day (UTC, 2026-03-05): how often, and the sum of what was counted with it."""

    day: str
    kind: str
    name: str
    count: int
    total: int


class Usage:
    """Of a worker; counts are kept together and written every two seconds, and at the end."""

    def __init__(self, database: Database, writer: Writer, clock: Callable[[], datetime] | None = None) -> None:
        self._database, self._writer = database, writer
        self._clock = clock or (lambda: datetime.now(timezone.utc))
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, str], list[int]] = {}
        self._periodic = Periodic("usage", _SECONDS, self.flush, last=True)

    def count(self, kind: str, name: str, total: int = 0) -> None:
        """One more. kind: up to 32 characters; name: up to 128, of a fixed set (a route, a business type, up, down). Never waits."""
        key = (f"{self._clock().astimezone(timezone.utc):%Y-%m-%d}", kind[:32], _plain(name))
        with self._lock:
            entry = self._counts.setdefault(key, [0, 0])
            entry[0] += 1
            entry[1] += total

    def read(self, days: int = 30, today: date | None = None) -> list[Count]:
        """Of the last days, by day, kind and name, as far as they are written."""
        table, sa = tables()["usage"], library("sqlalchemy", "the portal")
        first = (today or self._clock().astimezone(timezone.utc).date()) - timedelta(days=days - 1)
        query = sa.select(table).where(table.c.day >= first.isoformat()).order_by(table.c.day, table.c.kind, table.c.name)
        with self._database.read() as connection:
            return [Count(**row) for row in connection.execute(query).mappings()]

    def flush(self) -> None:
        """Writes what was counted. CatalogueError: it cannot be written; it is kept for the next time."""
        with self._lock:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            self._writer.submit(lambda connection: _add(connection, counts))
        except BaseException:
            with self._lock:
                for key, (count, total) in counts.items():
                    entry = self._counts.setdefault(key, [0, 0])
                    entry[0] += count
                    entry[1] += total
            raise

    def close(self) -> None:
        self._periodic.close()


def _add(connection: Any, counts: dict[tuple[str, str, str], list[int]]) -> None:
    table, sa = tables()["usage"], library("sqlalchemy", "the portal")
    for (day, kind, name), (count, total) in sorted(counts.items()):  # in one order: two workers never wait for each other
        where = (table.c.day == day, table.c.kind == kind, table.c.name == name)
        more = table.update().where(*where).values(count=table.c.count + count, total=table.c.total + total)
        if connection.execute(more).rowcount:
            continue
        try:
            with connection.begin_nested():
                values = {"day": day, "kind": kind, "name": name, "count": count, "total": total}
                connection.execute(table.insert().values(values))
        except sa.exc.IntegrityError:  # another worker was first
            connection.execute(more)
