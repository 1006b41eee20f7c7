"""The database under a catalogue: connections, transactions, migrations, and errors of one line.

SQLite in a file, by default: WAL, so that readers never wait for the writer and see one state for a whole transaction; writers come one
after another. PostgreSQL by URL: readers in REPEATABLE READ, the writer holds a lock on `meta`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.tables import library

__all__ = ["CATALOGUE", "REVISIONS", "Database", "tables"]

MIGRATIONS = Path(__file__).with_name("migrations")
REVISIONS = ("0001", "0002", "0003")  # of the tables, in order; the last is what this version of govlm reads and writes
CATALOGUE = ("items", "documents", "passages", "meta")  # the tables that hold nobody's data
_BUSY = 30.0  # seconds that a writer waits for another process's
_LOCK = 0x676F766C  # of PostgreSQL's advisory locks, held while tables are made or changed
_CHECKED_SIZE = 256 << 20  # bytes up to which a file is checked whole when it is opened


@cache
def tables() -> dict[str, Any]:
    """The tables for SQLAlchemy, by name."""
    sa = library("sqlalchemy", "the catalogue's database")
    common = ("code", "version", "position", "removed", "digest")
    columns = {
        "items": (*common, "name", "kind", "business", "region", "level", "valid_from", "valid_to", "record"),
        "documents": (*common, "title", "region", "level", "valid_from", "valid_to", "record"),
        "passages": ("document", "position", "id", "start", "end", "heading"),
        "meta": ("key", "value"),
        "people": ("person", "created", "seen", "opted_out"),
        "sessions": ("session", "person", "version", "state", "created", "seen"),
        "session_values": ("session", "name", "value"),
        "turns": ("session", "name", "key", "value", "at"),
        "submissions": ("id", "session", "person", "key", "item", "item_version", "form", "form_version", "at"),
        "submission_values": ("id", "name", "value"),
        "profile_values": ("person", "name", "value"),
        "events": ("number", "person", "kind", "code", "at"),
        "consents": ("number", "person", "purpose", "text_version", "given", "withdrawn"),
    }
    whole = ("version", "position", "start", "end", "number")
    kinds = dict.fromkeys(whole, sa.Integer) | {"removed": sa.Boolean, "opted_out": sa.Boolean}
    return {
        table: sa.table(table, *(sa.column(name, kinds.get(name, sa.Text)) for name in names))
        for table, names in columns.items()
    }


@cache
def _meta() -> Any:
    sa, meta = library("sqlalchemy", "the catalogue's database"), tables()["meta"]
    return sa.select(meta.c.value).where(meta.c.key == sa.bindparam("name"))


class Database:
    """Opened by `connect`. read() and write() give a connection within a transaction."""

    def __init__(self, target: str | os.PathLike[str]) -> None:
        """target: the path of an SQLite file, or a URL of SQLAlchemy (sqlite:///…, postgresql://user@host/name)."""
        sa = library("sqlalchemy", "the catalogue's database")
        text = os.fspath(target)
        try:
            url = sa.engine.make_url(text) if "://" in text else sa.engine.URL.create("sqlite", database=text)
        except sa.exc.ArgumentError:
            raise CatalogueError(
                "the database's URL cannot be understood; like postgresql://user@host/name, or a path"
            ) from None
        backend = url.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise CatalogueError(
                f"{backend}: a catalogue is kept in SQLite (a path) or PostgreSQL (postgresql://user@host/name)"
            )
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        if backend == "sqlite" and url.database in (None, "", ":memory:"):
            raise CatalogueError("a catalogue needs a file: an SQLite database in memory is not shared by threads")
        self.sqlite = backend == "sqlite"
        self.path = Path(url.database) if self.sqlite else None
        self.name = str(self.path) if self.sqlite else url.render_as_string(hide_password=True)
        self._writing = threading.Lock()
        self._glancing = threading.Lock()
        self._kept: tuple[Any, Any] | None = None  # the process and the file, and a connection for `look`
        self._compiled: dict[Any, tuple[str, Any, dict[str, Any]]] = {}
        options: dict[str, Any] = {"pool_size": 8}
        options |= (
            {"max_overflow": -1, "connect_args": {"timeout": _BUSY}}
            if self.sqlite
            else {"pool_pre_ping": True, "max_overflow": 24}
        )
        try:
            self.engine = sa.create_engine(url, **options)
        except ImportError as error:
            raise CatalogueError(f'PostgreSQL needs {error.name}: pip install "govlm[postgresql]"') from None
        self._seen = False  # whether the file was there
        if self.sqlite:
            sa.event.listen(self.engine, "do_connect", self._still_there)
            sa.event.listen(self.engine, "connect", self._connected)
            sa.event.listen(self.engine, "checkout", self._same_file)
            sa.event.listen(self.engine, "begin", _begin)

    # ---- a file that goes away and comes back

    def _still_there(self, *_: Any) -> None:
        """SQLite would make an empty file in the place of one that was moved away."""
        if self._seen and self._file() is None:
            raise sqlite3.OperationalError("unable to open database file")

    def _connected(self, connection: Any, record: Any) -> None:
        _prepare(connection, record)
        record.info["file"], self._seen = self._file(), True

    def _same_file(self, connection: Any, record: Any, _: Any) -> None:
        """A connection to a file that was moved away or replaced is not used: what it wrote would be lost."""
        if record.info["file"] != self._file():
            raise library("sqlalchemy", "the catalogue's database").exc.DisconnectionError("another file")

    def _file(self) -> tuple[int, int] | None:
        try:
            found = os.stat(str(self.path))
        except OSError:
            return None
        return found.st_dev, found.st_ino

    # ---- transactions

    @contextlib.contextmanager
    def read(self) -> Iterator[Any]:
        """A connection that sees one state of the database until the end."""
        with self.explained(), self.engine.connect() as connection:
            if not self.sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def write(self, *, catalogue: bool = True) -> Iterator[Any]:
        """The only connection that writes; what it wrote is seen by all at once at the end, or never.

        catalogue: False leaves the catalogue alone: PostgreSQL then lets an import go on beside it. SQLite has one writer in any case.
        """
        sa = library("sqlalchemy", "the catalogue's database")
        alone = self._writing if catalogue or self.sqlite else contextlib.nullcontext()
        with alone, self.explained(), self.engine.connect() as connection:
            connection = connection.execution_options(govlm_writes=True)
            with connection.begin():
                if catalogue and not self.sqlite:
                    connection.execute(sa.text("LOCK TABLE meta IN EXCLUSIVE MODE"))
                yield connection

    # ---- what is asked at every question: SQLAlchemy takes several times as long as the database to answer it

    def glance(self, key: str) -> str | None:
        """What stands in `meta` now, as `look`."""
        found = self.look(_meta(), {"name": key})
        return str(found[0][0]) if found else None

    def look(self, statement: Any, values: Mapping[str, Any]) -> list[Any]:
        """Rows of one statement, which sees one state of the database: outside any transaction, on a connection that is kept for it."""
        with self._glancing:
            try:
                here = os.getpid(), self._file() if self.sqlite else None
                if self._kept is None or self._kept[0] != here:
                    self._kept = here, self._connect_alone()
                with contextlib.closing(self._kept[1].cursor()) as cursor:
                    cursor.execute(*self._plain(statement, values))
                    found: list[Any] = cursor.fetchall()
                    return found
            except (self.engine.dialect.dbapi.Error, library("sqlalchemy", "the catalogue's database").exc.DBAPIError):
                self._kept = None  # a lost connection, maybe: the ordinary way makes a new one, or explains
        with self.read() as connection:
            return list(connection.execute(statement, values).all())

    def run(self, connection: Any, statement: Any, *values: Mapping[str, Any]) -> int:
        """Executes a statement, of parameters of SQLAlchemy, for each of the values, within the transaction of `connection`. The number of
        rows that it changed. DBAPIError as SQLAlchemy raises it."""
        try:
            with contextlib.closing(connection.connection.cursor()) as cursor:
                changed = 0
                for entry in values:
                    cursor.execute(*self._plain(statement, entry))
                    changed += cursor.rowcount
                return changed
        except self.engine.dialect.dbapi.Error as error:
            sa = library("sqlalchemy", "the catalogue's database")
            raise sa.exc.DBAPIError.instance(
                "", None, error, self.engine.dialect.dbapi.Error, hide_parameters=True,
                connection_invalidated=self.engine.dialect.is_disconnect(error, connection.connection, None),
                dialect=self.engine.dialect,
            ) from error  # fmt: skip

    def _plain(self, statement: Any, values: Mapping[str, Any]) -> tuple[str, Any]:
        """(the statement in the driver's words, its parameters). statement: made once and kept."""
        known = self._compiled.get(statement)
        if known is None:
            made = statement.compile(dialect=self.engine.dialect)
            known = self._compiled[statement] = str(made), made.positiontup, dict(made.params)
        text, order, given = known
        every = {**given, **values}
        return text, every if order is None else [every[name] for name in order]

    def _connect_alone(self) -> Any:
        """A connection of the driver, outside the pool, that begins no transactions."""
        pooled = self.engine.raw_connection()
        connection = pooled.driver_connection
        pooled.detach()
        if not self.sqlite:  # SQLite's are so already, see _prepare
            connection.rollback()
            connection.autocommit = True
        return connection

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of the database become a CatalogueError of one line."""
        sa = library("sqlalchemy", "the catalogue's database")
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise CatalogueError(self._explain(error)) from None

    def _explain(self, error: Any) -> str:
        text = " ".join(str(error.orig).split())
        low = text.lower()
        if isinstance(error.orig, sqlite3.Error):
            if any(word in low for word in ("not a database", "malformed", "disk i/o", "corrupt")):
                return self.damaged(text)
            if "full" in low:
                return f"{self.name}: the disk is full; nothing was written"
            if "locked" in low or "busy" in low:
                return f"{self.name}: another process has been writing for {_BUSY:.0f} seconds; try again when it is done"
            if "unable to open" in low:
                return f"{self.name}: cannot be opened; does the folder exist, and may it be written?"
            if "readonly" in low:
                return f"{self.name}: may not be written; nothing was changed"
        return f"{self.name}: {text}"

    def damaged(self, detail: str) -> str:
        return f"{self.name}: the database is damaged ({detail}); Store.recover(database, backup) puts a backup in its place"

    def close(self) -> None:
        """Closes all connections. SQLite then folds its log into the file."""
        with self._glancing:
            kept, self._kept = self._kept, None
        if kept is not None and kept[0][0] == os.getpid():
            kept[1].close()
        self.engine.dispose()

    # ---- tables

    def revision(self) -> str | None:
        """The revision of its tables; None where there are none at all."""
        sa = library("sqlalchemy", "the catalogue's database")
        with self.read() as connection:
            names = set(sa.inspect(connection).get_table_names())
            if "alembic_version" not in names:
                if self.sqlite and names:
                    raise CatalogueError(f"{self.name}: holds other tables ({', '.join(sorted(names)[:5])}) but no catalogue")
                return None
            found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            return str(found) if found else None

    def check_file(self) -> None:
        """CatalogueError where a file is no sound SQLite database."""
        if self.path is None or self.path.stat().st_size > _CHECKED_SIZE:
            return
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise CatalogueError(self.damaged(" ".join(str(found).split())))

    def migrate(self, create: bool) -> None:
        """Makes or upgrades the tables. CatalogueError: they are missing and not to be made, or newer than this govlm."""
        found = self.revision()
        if found is None and not create:
            raise CatalogueError(f"{self.name}: holds no catalogue; make one with Store.create")
        if found is not None and found not in REVISIONS:
            raise CatalogueError(
                f"{self.name}: written by a newer govlm (tables {found}, known up to {REVISIONS[-1]}): upgrade govlm"
            )
        if found == REVISIONS[-1]:
            return
        self.upgrade(MIGRATIONS)

    def upgrade(self, migrations: Path, version_table: str = "alembic_version") -> None:
        """Runs the migrations of a folder that were not run yet. version_table: where alembic keeps which were."""
        sa = library("sqlalchemy", "the catalogue's database")
        command = library("alembic.command", "the catalogue's database")
        config = library("alembic.config", "the catalogue's database").Config()
        config.set_main_option("script_location", str(migrations).replace("%", "%%"))
        config.attributes["version_table"] = version_table
        with self._writing, self.explained(), self.engine.connect() as connection:
            connection = connection.execution_options(govlm_writes=True)
            with connection.begin():  # all of it or nothing
                if not self.sqlite:
                    connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")


def _prepare(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, see _begin
    cursor = connection.cursor()
    with contextlib.suppress(sqlite3.OperationalError):  # a file that may only be read is read as it is
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA secure_delete=ON")  # what is erased leaves no trace in the file's free pages
    cursor.close()


def _begin(connection: Any) -> None:
    # A transaction that will write takes the lock first: one that reads before it writes could be refused in its middle.
    writes = connection.get_execution_options().get("govlm_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
