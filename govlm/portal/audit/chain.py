"""What was done by whom, kept so that every change of it shows.

    portal.audit.record("account.create", who, f"account:{id}", {"roles": "clerk"})            # kept soon, beside others
    portal.audit.record("erase", who, f"person:{id}").result()                                  # is on the disk now

Each worker writes chains of its own, a new one every day: an entry's digest is SM3 over all its fields and the digest before it. Heads are
anchored outside the database (govlm.portal.audit.anchors) when a chain begins, every 64 entries or 5 seconds, and when it ends. Who did it
appears as a keyed pseudonym only, and what people wrote not at all, so that a person's data can be erased while the audit stays.
"""

from __future__ import annotations

import json
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from govlm.hall.catalogue.database import Database
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.privacy import mask
from govlm.hall.protection.sessions import utc
from govlm.hall.protection.vault import Vault
from govlm.hall.protection.writer import Writer
from govlm.portal.audit import sm3
from govlm.portal.audit.anchors import Anchors
from govlm.portal.store.tables import tables

if TYPE_CHECKING:
    from govlm.portal.security.access import Principal

__all__ = ["FIELDS", "Audit", "genesis", "sealed"]

FIELDS = ("chain", "number", "at", "actor", "role", "action", "object", "detail", "previous")
PRIVATE = ("login", "person", "session", "visitor")  # kinds of objects whose numbers appear as pseudonyms only
_LOG = logging.getLogger(__name__)
_ENTRIES, _SECONDS = 64, 5.0  # between two anchors at most
_MOST = 256  # entries in a transaction
_BACKLOG = 10_000  # entries that wait for a database that does not answer
_LONGEST = 2_000  # characters of a detail
_PATIENCE = 10.0  # seconds that the last entries are tried for when the portal stops


def genesis(chain: str) -> str:
    """The digest before a chain's first entry."""
    return sm3.digest(f"govlm audit {chain}".encode()).hex()


def sealed(entry: Mapping[str, Any]) -> str:
    """The digest of an entry: SM3 of its fields as a JSON array of texts in the order of FIELDS, UTF-8, without spaces."""
    values = [str(entry[name]) for name in FIELDS]
    return sm3.digest(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")).hex()


class _Chain:
    """number, digest: of the last entry made; kept: of the last one in the database; anchored: its number in the last anchor."""

    def __init__(self, name: str) -> None:
        self.name, self.number, self.digest = name, 0, genesis(name)
        self.kept = (0, self.digest)
        self.anchored = 0


class _Entry(NamedTuple):
    values: dict[str, Any]
    future: Future[None]


class Audit:
    """One a worker. clock: gives the time of entries and anchors."""

    def __init__(
        self, database: Database, writer: Writer, vault: Vault, anchors: Anchors, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._database, self._writer, self._vault, self._anchors = database, writer, vault, anchors
        self._clock = clock or (lambda: datetime.now(timezone.utc))
        self._queue: queue.Queue[_Entry | None] = queue.Queue(_BACKLOG)
        self._chain: _Chain | None = None
        self._pending: list[dict[str, Any]] = []  # made, and not known to be in the database
        self._unsure = False  # an attempt failed: some of them may be there all the same
        self._futures: list[Future[None]] = []  # of those
        self._last_anchor = 0.0
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="govlm-audit", daemon=True)
        self._thread.start()

    def record(
        self, action: str, who: Principal | None, object: str = "", detail: Mapping[str, Any] | None = None
    ) -> Future[None]:
        """Keeps that something was done; who None: the portal itself. The result is there once it is on the disk.

        object: what was done it to, "kind:number"; of PRIVATE kinds the number appears as a pseudonym. detail: texts in it are masked;
        never give it what a person wrote, nor a name. CatalogueError: the audit cannot be written for long now, so nothing may go on.
        """
        values = {
            "at": utc(self._clock()),
            "actor": self.actor(who.id) if who else "portal",
            "role": ",".join(sorted(who.roles)) if who else "",
            "action": action,
            "object": self.object(object),
            "detail": _detail(detail or {}),
        }
        entry = _Entry(values, Future())
        with self._lock:
            if self._stop.is_set():
                raise CatalogueError("the audit is closed; nothing was kept")
            try:
                self._queue.put_nowait(entry)
            except queue.Full:
                raise CatalogueError("the audit cannot be written, and too much waits for it") from None
        return entry.future

    def actor(self, principal: str) -> str:
        """The pseudonym under which a principal's entries are filed."""
        return self._vault.pseudonym("principal", principal)

    def object(self, name: str) -> str:
        """An object as entries name it."""
        kind, _, number = name.partition(":")
        return f"{kind}:{self._vault.pseudonym(kind, number)}" if kind in PRIVATE and number else mask(name)

    def close(self) -> None:
        """Writes what waits, and anchors the end."""
        with self._lock:
            self._stop.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join()

    # ---- on the audit's thread

    def _run(self) -> None:
        waiting: list[_Entry] = []
        end, failing = float("inf"), False
        while True:
            waiting += self._arrived(0.0 if waiting or self._pending else 1.0, _MOST - len(waiting))
            if self._stop.is_set():
                end = min(end, time.monotonic() + _PATIENCE)
            try:
                self._keep(waiting)
                if time.monotonic() >= self._last_anchor + _SECONDS:
                    self._anchor()
                if self._stop.is_set() and self._queue.empty():
                    self._anchor("closed")
                    return
                failing = False
            except (CatalogueError, OSError) as error:
                if not failing:
                    _LOG.error("the audit cannot be written and is tried again: %s", error)
                failing = True
                for future in (*self._futures, *(entry.future for entry in waiting)):
                    if not future.done():
                        future.set_exception(CatalogueError("the audit could not be written yet"))
                if time.monotonic() > end:
                    _LOG.critical("%d entries of the audit could not be written", len(self._pending) + len(waiting))
                    return
                time.sleep(0.2)

    def _arrived(self, seconds: float, most: int) -> list[_Entry]:
        found: list[_Entry] = []
        with suppress(queue.Empty):
            while len(found) < most:
                entry = self._queue.get(timeout=seconds) if seconds and not found else self._queue.get_nowait()
                if entry is not None:
                    found.append(entry)
                elif self._queue.empty():
                    break
        return found

    def _keep(self, waiting: list[_Entry]) -> None:
        """Writes what could not be written before, then these, and empties the list once they have their numbers."""
        if self._pending:
            self._commit()
        if not waiting:
            return
        chain = self._current()
        for entry in waiting:
            row = {"chain": chain.name, "number": chain.number + 1, "previous": chain.digest, **entry.values}
            chain.number, chain.digest = row["number"], sealed(row)
            self._pending.append({**row, "digest": chain.digest})
            self._futures.append(entry.future)
        waiting.clear()
        self._commit()
        if chain.anchored == 0 or chain.kept[0] - chain.anchored >= _ENTRIES:
            self._anchor()

    def _current(self) -> _Chain:
        """The chain of today, begun where there is none."""
        now = self._clock().astimezone(timezone.utc)
        if self._chain is not None and not self._chain.name.startswith(f"{now:%Y%m%d}"):
            self._anchor("closed")
            self._chain = None
        if self._chain is None:
            chain = _Chain(f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}-{self._anchors.mark}")
            self._anchors.append("opened", chain.name, 0, chain.digest, now)
            self._chain = chain
        return self._chain

    def _commit(self) -> None:
        rows, unsure, table = self._pending, self._unsure, tables()["audit"]

        def write(connection: Any) -> None:
            new = rows
            if unsure:
                there = connection.execute(table.select().where(table.c.chain == rows[0]["chain"])).all()
                kept = {row.number for row in there}
                new = [row for row in rows if row["number"] not in kept]
            if new:
                connection.execute(table.insert(), new)

        self._unsure = True
        self._writer.submit(write)
        assert self._chain is not None
        self._chain.kept = (rows[-1]["number"], rows[-1]["digest"])
        for future in self._futures:
            if not future.done():
                future.set_result(None)
        self._unsure, self._pending, self._futures = False, [], []

    def _anchor(self, event: str = "head") -> None:
        chain = self._chain
        self._last_anchor = time.monotonic()
        if chain is not None and (event == "closed" or chain.kept[0] > chain.anchored):
            self._anchors.append(event, chain.name, *chain.kept, self._clock())
            chain.anchored = chain.kept[0]


def _detail(values: Mapping[str, Any]) -> str:
    text = json.dumps(_masked(values), ensure_ascii=False, sort_keys=True, default=lambda value: mask(str(value)))
    return text if len(text) <= _LONGEST else json.dumps({"cut": text[: _LONGEST // 2]}, ensure_ascii=False)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {mask(str(name)): _masked(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**9:  # a number may be somebody's
        return mask(str(value))
    return value
