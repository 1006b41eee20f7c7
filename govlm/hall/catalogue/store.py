"""The catalogue of a hall in a database: items and policy documents, with versions.

    store = Store.create("catalogue.db")            # or "postgresql://hall@db/hall"
    store.put_items(items)
    with store.snapshot() as view:                  # one state, however long it is read
        view.items(on=today, region="4401")

Every change is one transaction and makes a new version of the catalogue; a record that is replaced by another gets its own version + 1.
A removed code keeps its number, so that a record that comes back never bears a version twice. Whether a record is in force is asked with
the caller's date: the database's clock is never looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from govlm.hall.catalogue.database import CATALOGUE, Database, tables
from govlm.hall.catalogue.records import Document, Item, Passage, from_dict, to_dict
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.tables import library

__all__ = ["PEOPLE_KEY", "Beside", "Index", "Snapshot", "Store", "copy_rows"]

Target = str | os.PathLike[str]
PEOPLE_KEY = "people_key"  # in `meta`: which key file people's data belongs to
_ROWS = 1000  # that are copied at a time


class Index(NamedTuple):
    """The search index in use: what its builder called it, and the version of the catalogue that it was built from."""

    generation: str
    version: int


def _index(found: str | None) -> Index | None:
    return Index(*json.loads(found)) if found else None


class Beside(NamedTuple):
    """Tables of another part of govlm in the same database, that a backup takes along. upgrade: makes them in a new database."""

    upgrade: Callable[[Database], None]
    tables: Sequence[Any]


class Snapshot:
    """One state of a catalogue. Made by `Store.snapshot`."""

    def __init__(self, connection: Any, damaged: Any) -> None:
        self._connection, self._damaged = connection, damaged
        self._sa = library("sqlalchemy", "the catalogue's database")
        # Of the catalogue: 0 when it is new, one more after every change. Read here: a database fixes its state at the first read.
        self.version = int(self._meta("version") or 0)

    # ---- the whole

    def _meta(self, key: str) -> str | None:
        meta = tables()["meta"]
        found = self._connection.execute(self._sa.select(meta.c.value).where(meta.c.key == key)).scalar()
        return None if found is None else str(found)

    @property
    def index(self) -> Index | None:
        """The search index that was published last."""
        return _index(self._meta("index"))

    # ---- items

    def items(
        self, *, on: date | None = None, region: str | None = None, level: str | None = None, audience: str | None = None
    ) -> list[Item]:
        """The items, in the order in which they came.

        on: only those in force on that day.  region: only those that serve it, its own and those of the regions that hold it (GB/T 2260:
        440106 has those of 4401, 44 and of everywhere).  level: 省级, …  audience: 自然人, …; items that name no audience serve all.
        """
        found = [self._record(Item, text) for text in self._texts("items", on, region, level)]
        return [item for item in found if audience is None or not item.audiences or audience in item.audiences]

    def item(self, code: str) -> Item | None:
        return self._one(Item, "items", code)

    def item_versions(self) -> dict[str, int]:
        """code -> version of every item."""
        return self._versions("items")

    # ---- documents

    def documents(self, *, on: date | None = None, region: str | None = None, level: str | None = None) -> list[Document]:
        """The documents with their passages; arguments as in `items`."""
        found = [self._record(Document, text) for text in self._texts("documents", on, region, level)]
        passages = self._passages()
        return [_with_passages(document, passages.get(document.code, ())) for document in found]

    def document(self, code: str) -> Document | None:
        found = self._one(Document, "documents", code)
        return None if found is None else _with_passages(found, self._passages(code).get(code, ()))

    def document_versions(self) -> dict[str, int]:
        """code -> version of every document."""
        return self._versions("documents")

    # ---- rows

    def _texts(self, name: str, on: date | None, region: str | None, level: str | None) -> list[str]:
        table = tables()[name]
        query = self._sa.select(table.c.record).where(table.c.removed == self._sa.false()).order_by(table.c.position)
        if on is not None:
            day = on.isoformat()
            query = query.where(table.c.valid_from <= day, self._sa.or_(table.c.valid_to == "", table.c.valid_to >= day))
        if region is not None:
            query = query.where(table.c.region.in_([region[:size] for size in range(len(region) + 1)]))
        if level is not None:
            query = query.where(table.c.level == level)
        return [str(text) for text in self._connection.execute(query).scalars()]

    def _one(self, kind: type[Any], name: str, code: str) -> Any:
        table = tables()[name]
        query = self._sa.select(table.c.record).where(table.c.code == _storable(code), table.c.removed == self._sa.false())
        found = self._connection.execute(query).scalar()
        return None if found is None else self._record(kind, str(found))

    def _record(self, kind: type[Any], text: str) -> Any:
        try:
            return from_dict(kind, json.loads(text))
        except ValueError as error:
            raise CatalogueError(self._damaged(f"a record: {error}")) from None

    def _versions(self, name: str) -> dict[str, int]:
        table = tables()[name]
        query = (
            self._sa.select(table.c.code, table.c.version).where(table.c.removed == self._sa.false()).order_by(table.c.position)
        )
        return {str(code): int(version) for code, version in self._connection.execute(query)}

    def _passages(self, code: str | None = None) -> dict[str, tuple[Passage, ...]]:
        table = tables()["passages"]
        columns = (table.c.document, table.c.id, table.c.start, table.c.end, table.c.heading)
        query = self._sa.select(*columns).order_by(table.c.document, table.c.position)
        if code is not None:
            query = query.where(table.c.document == _storable(code))
        found: dict[str, list[Passage]] = {}
        for document, *values in self._connection.execute(query):
            found.setdefault(document, []).append(Passage(*values))
        return {document: tuple(passages) for document, passages in found.items()}


class Store:
    """A catalogue. Many threads and processes may read while one writes. Close it, or use it in a `with`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- made and opened

    @classmethod
    def create(cls, target: Target) -> Store:
        """An empty catalogue. target: the path of a new file, or the URL of a database. CatalogueError: there is one already."""
        database = Database(target)
        if database.path is not None and database.path.exists():
            raise CatalogueError(f"{database.name}: exists already; Store.open opens a catalogue")
        try:
            if database.revision() is not None:
                raise CatalogueError(f"{database.name}: holds a catalogue already; Store.open opens it")
            database.migrate(create=True)
        except BaseException:
            database.close()
            if database.path is not None:
                _unlink(database.path)
            raise
        return cls(database)

    @classmethod
    def open(cls, target: Target) -> Store:
        """The catalogue in a file or database; an older one is upgraded. CatalogueError: there is none, it is damaged, or newer than govlm."""
        database = Database(target)
        if database.path is not None and not database.path.is_file():
            raise CatalogueError(f"{database.name}: no such catalogue; make one with Store.create")
        try:
            database.check_file()
            database.migrate(create=False)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @classmethod
    def recover(cls, target: Target, backup: Target) -> Store:
        """Puts a backup in the place of an SQLite catalogue that cannot be opened any more.

        People's data is what the backup holds of it (see `backup`); none, where it holds none.
        The damaged files are kept beside it, named .damaged. No process may have the catalogue open.
        """
        database = Database(target)
        if database.path is None:
            raise CatalogueError(
                f"{database.name}: only a file can be recovered; create a new database and restore the backup there"
            )
        with cls.open(backup) as source:
            source._copy_to(database.path, people=True)
        return cls.open(database.path)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self._database.name!r})"

    # ---- read

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One state of the catalogue for everything that is read within the `with`."""
        with self._database.read() as connection:
            yield Snapshot(connection, self._database.damaged)

    @property
    def database(self) -> Database:
        """For the tables of people (govlm.hall.protection); the catalogue's own are changed by the methods here alone."""
        return self._database

    @property
    def version(self) -> int:
        """Of the catalogue: 0 when it is new, one more after every change."""
        with self.snapshot() as view:
            return view.version

    @property
    def index(self) -> Index | None:
        """As `Snapshot.index`, read alone: it is looked at at every question."""
        return _index(self._database.glance("index"))

    def items(
        self, *, on: date | None = None, region: str | None = None, level: str | None = None, audience: str | None = None
    ) -> list[Item]:
        """As `Snapshot.items`."""
        with self.snapshot() as view:
            return view.items(on=on, region=region, level=level, audience=audience)

    def item(self, code: str) -> Item | None:
        with self.snapshot() as view:
            return view.item(code)

    def documents(self, *, on: date | None = None, region: str | None = None, level: str | None = None) -> list[Document]:
        """As `Snapshot.documents`."""
        with self.snapshot() as view:
            return view.documents(on=on, region=region, level=level)

    def document(self, code: str) -> Document | None:
        with self.snapshot() as view:
            return view.document(code)

    # ---- written

    def put_items(self, items: Iterable[Item], *, replace_all: bool = False) -> int:
        """Adds items, and replaces those of the same code. Returns the catalogue's version, the old one if nothing changed.

        replace_all: removes the items that are not among them.
        """
        return self.put(items=items, replace_all=replace_all)

    def put_documents(self, documents: Iterable[Document], *, replace_all: bool = False) -> int:
        """As `put_items`, for documents."""
        return self.put(documents=documents, replace_all=replace_all)

    def put(
        self, items: Iterable[Item] | None = None, documents: Iterable[Document] | None = None, *, replace_all: bool = False
    ) -> int:
        """Items and documents in one transaction; None leaves that kind as it is. As `put_items`."""
        item_rows = None if items is None else [_item_row(item) for item in items]
        document_rows = None if documents is None else [_document_row(document) for document in documents]
        for rows in (item_rows, document_rows):
            codes = [row["code"] for row, _ in rows or ()]
            if len(set(codes)) < len(codes):
                twice = next(code for code in codes if codes.count(code) > 1)
                raise CatalogueError(f"code {twice!r} stands twice among the records; nothing was written")
        with self._database.write() as connection:
            writer = _Writer(connection)
            for name, rows in (("items", item_rows), ("documents", document_rows)):
                if rows is not None:
                    writer.put(name, rows, replace_all)
            return writer.finish()

    def remove(self, codes: str | Iterable[str]) -> int:
        """Removes items, those that are there. Returns the catalogue's version."""
        with self._database.write() as connection:
            writer = _Writer(connection)
            writer.remove("items", [codes] if isinstance(codes, str) else list(codes))
            return writer.finish()

    def remove_documents(self, codes: str | Iterable[str]) -> int:
        """As `remove`, for documents."""
        with self._database.write() as connection:
            writer = _Writer(connection)
            writer.remove("documents", [codes] if isinstance(codes, str) else list(codes))
            return writer.finish()

    def publish_index(self, generation: str, version: int) -> bool:
        """Makes a finished search index the one in use, for all readers at once.

        generation: the builder's name for it.  version: of the catalogue that it was built from.  False: one of a newer version is in use,
        and stays.
        """
        with self._database.write() as connection:
            now = Snapshot(connection, self._database.damaged).index
            if now is not None and now.version > version:
                return False
            _Writer(connection).set("index", json.dumps([generation, version]))
            return True

    # ---- kept safe

    def backup(self, path: Target, *, people: bool = False, beside: Beside | None = None) -> None:
        """Writes the catalogue, as it is at this moment, to an SQLite file, which replaces one of that name. Readers and writers go on.

        people: also sessions, submissions, profiles, events and consents, as they are kept: encrypted, so that the key file is needed with
        it (keep that elsewhere). Without, a backup holds nobody's data and may be handed on. beside: further tables, of the same moment.
        """
        self._copy_to(Path(path), people, beside)

    def restore(self, path: Target) -> int:
        """Makes the catalogue what a backup holds, in one transaction; returns its version. Records that change get a new version.

        People's data stays as it is, whatever the backup holds; `recover` brings it back.
        CatalogueError: the backup is none or damaged; nothing was changed then.
        """
        with Store.open(path) as source, source.snapshot() as view:
            items, documents = view.items(), view.documents()
        return self.put(items, documents, replace_all=True)

    def check(self) -> list[str]:
        """What is wrong with the catalogue, a line each; none when it is sound. Reads all of it."""
        problems: list[str] = []
        try:
            self._database.check_file()
            with self.snapshot() as view:
                codes = set(view.item_versions())
                items = view.items()
                problems += [f"事项{item.code}的记录与它的编码不符" for item in items if _storable(item.code) not in codes]
                for document in view.documents():
                    for passage in document.passages:
                        if not 0 <= passage.start < passage.end <= len(document.text):
                            problems.append(f"文件{document.code}的段落{passage.id}超出正文")
            problems += self._loose()
        except CatalogueError as error:
            problems.append(str(error))
        return problems

    def _loose(self) -> list[str]:
        """Rows of people's data without what they belong to."""
        sa, known, problems = library("sqlalchemy", "the catalogue's database"), tables(), []
        with self._database.read() as connection:
            for child, parent, key in (
                ("session_values", "sessions", "session"), ("turns", "sessions", "session"), ("submission_values", "submissions", "id"),
                ("profile_values", "people", "person"), ("events", "people", "person"),
            ):  # fmt: skip
                there = sa.select(known[parent].c[key])
                query = sa.select(sa.func.count()).select_from(known[child]).where(known[child].c[key].not_in(there))
                if found := connection.execute(query).scalar():
                    problems.append(f"{child}有{found}行不属于任何{parent}")
        return problems

    def _copy_to(self, path: Path, people: bool, beside: Beside | None = None) -> None:
        """Copies every row to a new SQLite file, put in place when it is whole; what was there and is no catalogue is kept as .damaged."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        _unlink(temporary)
        try:
            with Store.create(temporary) as target:
                if beside is not None:
                    beside.upgrade(target._database)
                copy_rows(self._database, target._database, people=people, more=beside.tables if beside else ())
            with contextlib.closing(
                sqlite3.connect(temporary)
            ) as plain:  # a file of its own, readable from a medium without writing
                plain.execute("PRAGMA journal_mode=DELETE")
            _put_in_place(temporary, path)
        finally:
            _unlink(temporary)


def copy_rows(origin: Database, target: Database, *, people: bool, more: Sequence[Any] = ()) -> None:
    """All rows of one state of a database to another whose tables are new and empty, in one transaction. people: also those of people.
    more: further tables that both have."""
    sa = library("sqlalchemy", "the catalogue's database")
    with origin.read() as source, target.write() as connection:
        for table in (*tables().values(), *more):
            if table.name in tables() and table.name not in CATALOGUE and not people:
                continue
            if table.name == "meta":
                connection.execute(table.delete())
            found = source.execution_options(yield_per=_ROWS).execute(table.select()).mappings()
            for part in found.partitions():
                # the index belongs to the place where it was built, and the keys to people's data
                left_out = ("index",) if people else ("index", PEOPLE_KEY)
                rows = [dict(row) for row in part if table.name != "meta" or row["key"] not in left_out]
                if rows:
                    connection.execute(table.insert(), rows)
            if not target.sqlite and table.name in ("events", "consents"):  # counts on behind what is there
                last = f"(SELECT coalesce(max(number), 0) + 1 FROM {table.name})"
                connection.execute(sa.text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'number'), {last}, false)"))


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _put_in_place(temporary: Path, path: Path) -> None:
    try:
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        if path.exists() and not _sound(path):
            number = 0
            while (kept := path.with_name(f"{path.name}.damaged{number or ''}")).exists():
                number += 1
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(path.with_name(path.name + suffix), kept.with_name(kept.name + suffix))
        _unlink(path)
        os.replace(temporary, path)
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be written: {error.strerror or error}") from None


def _sound(path: Path) -> bool:
    try:
        Store.open(path).close()
    except CatalogueError:
        return False
    return True


# ---- rows ------------------------------------------------------------------------------------------------------------

Row = dict[str, Any]


def _storable(text: str) -> str:
    """A text that every database holds: no NUL, no half characters. Only for the columns that are searched; the record keeps all."""
    return text.replace("\x00", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _json(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, ensure_ascii=False)  # as they stand: the fields of a form are asked in their order
    return text if _storable(text) == text else json.dumps(values)


def _row(record: Item | Document, values: Mapping[str, Any], names: Sequence[str]) -> Row:
    text = _json(values)
    row: Row = {name: _storable(getattr(record, name)) for name in ("code", "region", "level", *names)}
    row["valid_from"] = record.valid_from.isoformat() if record.valid_from else ""
    row["valid_to"] = record.valid_to.isoformat() if record.valid_to else ""
    return row | {"record": text, "digest": hashlib.sha256(text.encode()).hexdigest()}


def _item_row(item: Item) -> tuple[Row, tuple[Passage, ...]]:
    if not item.code or not item.name:
        raise CatalogueError(f"an item needs a code and a name; this has code {item.code!r} and name {item.name!r}")
    return _row(item, to_dict(item), ("name", "kind", "business")), ()


def _document_row(document: Document) -> tuple[Row, tuple[Passage, ...]]:
    if not document.code:
        raise CatalogueError(f"a document needs a code; this has none: {document.title!r}")
    for passage in document.passages:
        if not 0 <= passage.start <= passage.end <= len(document.text):
            raise CatalogueError(f"document {document.code!r}: passage {passage.id!r} lies outside its text")
    ids = [passage.id for passage in document.passages]
    if len(set(ids)) < len(ids):
        raise CatalogueError(f"document {document.code!r}: two passages have one id")
    values = to_dict(document)
    row = _row(document, values, ("title",))
    return row | {"record": _json({name: value for name, value in values.items() if name != "passages"})}, document.passages


def _with_passages(document: Document, passages: tuple[Passage, ...]) -> Document:
    values = {name: getattr(document, name) for name in document.__dataclass_fields__}
    return Document(**values | {"passages": passages})


class _Writer:
    """The changes of one transaction."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.sa = library("sqlalchemy", "the catalogue's database")
        self.changed = False

    def set(self, key: str, value: str) -> None:
        meta = tables()["meta"]
        if not self.connection.execute(meta.update().where(meta.c.key == key).values(value=value)).rowcount:
            self.connection.execute(meta.insert().values(key=key, value=value))

    def finish(self) -> int:
        """Counts the catalogue's version up where something changed, and returns it."""
        meta = tables()["meta"]
        version = int(self.connection.execute(self.sa.select(meta.c.value).where(meta.c.key == "version")).scalar() or 0)
        if self.changed:
            version += 1
            self.set("version", str(version))
        return version

    def put(self, name: str, rows: list[tuple[Row, tuple[Passage, ...]]], replace_all: bool) -> None:
        table, sa = tables()[name], self.sa
        columns = (table.c.code, table.c.version, table.c.position, table.c.removed, table.c.digest)
        there = {row.code: row for row in self.connection.execute(sa.select(*columns))}
        position = max((row.position for row in there.values()), default=-1)
        new: list[Row] = []
        changed: list[Row] = []
        passages: list[tuple[str, tuple[Passage, ...]]] = []
        for row, parts in rows:
            old = there.get(row["code"])
            if old is not None and not old.removed and old.digest == row["digest"]:
                continue
            passages.append((row["code"], parts))
            if old is None:
                position += 1
                new.append(row | {"version": 1, "position": position, "removed": False})
            else:
                changed.append(row | {"version": old.version + 1, "position": old.position, "removed": False})
        if new:
            self.connection.execute(table.insert(), new)
        if changed:
            values = {key: sa.bindparam(f"b_{key}") for key in changed[0] if key != "code"}
            statement = table.update().where(table.c.code == sa.bindparam("b_code")).values(values)
            self.connection.execute(statement, [{f"b_{key}": value for key, value in row.items()} for row in changed])
        if name == "documents" and passages:
            self._put_passages(passages)
        self.changed |= bool(new or changed)
        if replace_all:
            kept = {row["code"] for row, _ in rows}
            self.remove(name, [code for code, row in there.items() if code not in kept and not row.removed])

    def _put_passages(self, passages: list[tuple[str, tuple[Passage, ...]]]) -> None:
        table = tables()["passages"]
        self._drop_passages([code for code, _ in passages])
        rows = [
            {
                "document": code, "position": i, "id": _storable(part.id), "start": part.start, "end": part.end, "heading": _storable(part.heading),
            }
            for code, parts in passages for i, part in enumerate(parts)
        ]  # fmt: skip
        if rows:
            self.connection.execute(table.insert(), rows)

    def _drop_passages(self, codes: list[str]) -> None:
        table = tables()["passages"]
        statement = table.delete().where(table.c.document == self.sa.bindparam("b_code"))
        self.connection.execute(statement, [{"b_code": code} for code in codes])

    def remove(self, name: str, codes: list[str]) -> None:
        """Forgets what the records say, but not which versions there were."""
        codes = [_storable(code) for code in codes]
        if not codes:
            return
        table = tables()[name]
        if name == "documents":
            self._drop_passages(codes)
        where = (table.c.code == self.sa.bindparam("b_code"), table.c.removed == self.sa.false())
        statement = table.update().where(*where).values(removed=True, record="", digest="")
        done = 0
        for code in codes:
            done += self.connection.execute(statement, {"b_code": code}).rowcount
        self.changed |= done > 0
