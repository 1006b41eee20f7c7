"""Writes of many threads in few transactions, each of which is on the disk before anybody is told so (group commit).

    writer = Writer(store)
    writer.submit(lambda connection: connection.execute(...))     # returns when it is committed

A commit waits for the disk (SQLite: synchronous=FULL), which takes as long for one row as for a hundred; so what arrives while one commit
is under way goes into the next one, together (DeWitt et al., Implementation Techniques for Main Memory Database Systems, 1984).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.store import Store
from govlm.hall.catalogue.tables import library

__all__ = ["Writer"]

_MOST = 256  # writes in a transaction
T = TypeVar("T")
_Job = tuple[Callable[[Any], Any], "Future[Any]"]


class _Undone(Exception):
    """Ends a transaction without its writes."""


class Writer:
    """The one thread that writes people's data of a store. Its thread begins with the first write."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, work: Callable[[Any], T]) -> T:
        """Calls work(connection) within a transaction, beside others', and returns its result once that is committed.

        What work raises undoes its own writes alone, and is raised here. A failure of the database (full disk, lost server) refuses all
        that is in the transaction with a CatalogueError: nothing of it was written. work may run on another thread: let it do nothing slow.
        """
        job: _Job = (work, Future())
        with self._lock:
            if self._closed:
                raise CatalogueError("the hall is closed; nothing was written")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="govlm-writer", daemon=True)
                self._thread.start()
            if threading.current_thread() is self._thread:
                raise RuntimeError("Writer.submit within a write would wait for itself; use its connection")
            self._jobs.put(job)
        result: T = job[1].result()
        return result

    def close(self) -> None:
        """Waits until all that was submitted is written. Later writes are refused."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._jobs.put(None)
        if thread is not None:
            thread.join()

    # ---- on the writer's thread

    def _run(self) -> None:
        open_ = True
        while open_:
            batch: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) == _MOST:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            open_ = job is not None
            if batch:
                self._write(batch)

    def _write(self, batch: list[_Job]) -> None:
        """One that is alone needs no savepoint, which costs as much as a quarter of its writes: the transaction is undone with it."""
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], BaseException]] = []
        try:
            with contextlib.suppress(_Undone), self._database.write(catalogue=False) as connection:
                for work, future in batch:
                    try:
                        with connection.begin_nested() if len(batch) > 1 else contextlib.nullcontext():
                            done.append((future, work(connection)))
                    except Exception as error:
                        if self._breaks_all(connection, error):
                            raise _first(error) from None
                        failed.append((future, error))
                        if len(batch) == 1:
                            raise _Undone from None
        except BaseException as reason:
            told = str(reason) if isinstance(reason, CatalogueError) else f"nothing was written: {type(reason).__name__}"
            for _, future in batch:
                future.set_exception(CatalogueError(told))
            return
        for future, result in done:
            future.set_result(result)
        for future, cause in failed:
            future.set_exception(self._told(cause))

    def _breaks_all(self, connection: Any, error: Exception) -> bool:
        """Whether the transaction cannot go on: the database itself failed, not what was asked of it."""
        sa = library("sqlalchemy", "the hall's database")
        if isinstance(error, sa.exc.OperationalError) or (
            isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
        ):
            return True
        plain = connection.connection.dbapi_connection
        return self._database.sqlite and not plain.in_transaction  # SQLite undid all of it by itself

    def _told(self, error: BaseException) -> BaseException:
        """An error of the database without the statement's values, which are a person's."""
        if isinstance(error, library("sqlalchemy", "the hall's database").exc.DBAPIError):
            return CatalogueError(f"{self._database.name}: refused by the database ({type(error.orig).__name__})")
        return error


def _first(error: BaseException) -> BaseException:
    """What went wrong first: undoing a savepoint that went with the transaction is an error that hides it."""
    database = library("sqlalchemy", "the hall's database").exc.DBAPIError
    found, before = error, error.__context__
    while before is not None:
        if isinstance(before, database):
            found = before
        before = before.__context__
    return found
