"""Switches that an administrator turns, for all workers within a second: "chat" off stops every answer of the assistant.

They stand in the database; each worker reads them twice a second, so that a request never waits for it. A database that cannot be read
leaves them as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, NamedTuple

from fastapi import Request

from govlm.hall.catalogue.database import Database
from govlm.hall.catalogue.tables import library
from govlm.hall.protection.sessions import utc
from govlm.hall.protection.writer import Writer
from govlm.portal.errors import PortalError
from govlm.portal.operations.periodic import Periodic
from govlm.portal.store.tables import put, tables

__all__ = ["SWITCHES", "Switch", "Switches", "switched"]

SWITCHES = ("chat",)
_SECONDS = 0.5


class Switch(NamedTuple):
    """by: the pseudonym of who turned it. at: UTC, ISO; both "" where nobody did yet."""

    name: str
    on: bool
    reason: str
    by: str
    at: str


class Switches:
    """Of a worker."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database, self._writer = database, writer
        self._state: dict[str, Switch] = {}
        self._refresh()
        self._periodic = Periodic("switches", _SECONDS, self._refresh)

    def on(self, name: str) -> bool:
        """Whether it is on, as it was a second ago at most. KeyError: there is no such switch."""
        return self._state[name].on

    def require(self, name: str) -> None:
        """PortalError "switched_off" where it is off."""
        if not self.on(name):
            raise PortalError("switched_off", retry_after=60)

    def all(self) -> list[Switch]:
        return list(self._state.values())

    def set(self, name: str, on: bool, reason: str = "", by: str = "", now: datetime | None = None) -> None:
        """Turns a switch; once it returns, it is so for this worker, and for the others within a second. KeyError: there is none."""
        if name not in SWITCHES:
            raise KeyError(name)
        at = utc(now or datetime.now(timezone.utc))
        values = {"value": "on" if on else "off", "reason": reason, "by": by, "at": at}
        self._writer.submit(lambda connection: put(connection, "switches", {"id": name}, values))
        self._refresh()

    def close(self) -> None:
        self._periodic.close()

    def _refresh(self) -> None:
        table = tables()["switches"]
        with self._database.read() as connection:
            rows: dict[str, Any] = {
                row.id: row for row in connection.execute(library("sqlalchemy", "the portal").select(table))
            }
        self._state = {
            name: Switch(name, row.value != "off", row.reason, row.by, row.at) if (row := rows.get(name)) else Switch(name, True, "", "", "")
            for name in SWITCHES
        }  # fmt: skip


def switched(name: str) -> Callable[[Request], None]:
    """A dependency of routes that answer only while the switch is on."""

    async def check(request: Request) -> None:
        request.app.state.portal.switches.require(name)

    return check  # type: ignore[return-value]
