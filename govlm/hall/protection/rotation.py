"""A new key in the place of an old one, while the hall goes on.

old = vault.ring.current
vault.add_key()                      # written with from now on, by every process
rotate(store, vault, writer)         # what is there is encrypted anew, some rows at a time
retire(store, vault, old)            # the old key is taken out of the file
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from govlm.hall.catalogue.database import tables
from govlm.hall.catalogue.store import Store
from govlm.hall.catalogue.tables import library
from govlm.hall.protection.vault import Vault, VaultError
from govlm.hall.protection.writer import Writer

__all__ = ["PLACES", "held", "in_use", "places", "retire", "rotate"]

Place = tuple[Any, str, str]  # table, encrypted column, column of the row's key

# Every encrypted column of the hall: table, its column, the row's key; the field bound to a value is the row's `name`, or the column's own.
# A table of another part of govlm in the same database keeps what is encrypted in columns named …_sealed, its rows by `id`.
PLACES = (
    ("sessions", "state", "session"),
    ("session_values", "value", "session"),
    ("turns", "value", "session"),
    ("submissions", "key", "id"),
    ("submission_values", "value", "id"),
    ("profile_values", "value", "person"),
)


def places(store: Store) -> list[Place]:
    """Every encrypted column of the database."""
    sa = library("sqlalchemy", "the hall's database")
    found = [(tables()[name], column, key) for name, column, key in PLACES]
    with store.database.read() as connection:
        inspected = sa.inspect(connection)
        for name in sorted(set(inspected.get_table_names()) - set(tables())):
            columns = [str(entry["name"]) for entry in inspected.get_columns(name)]
            table = sa.table(name, *(sa.column(column, sa.Text) for column in columns))
            found += [(table, column, "id") for column in columns if column.endswith("_sealed")]
    return found


def held(store: Store, key: str = "") -> int:
    """How many values of the database are written with a key; "": with any."""
    sa = library("sqlalchemy", "the hall's database")
    total, looked_at = 0, places(store)
    with store.database.read() as connection:
        for table, column, _ in looked_at:
            found = table.c[column]
            total += connection.execute(sa.select(sa.func.count()).where(found.like(f"v1.{key}.%" if key else "v1.%"))).scalar()
    return total


def rotate(store: Store, vault: Vault, writer: Writer, batch: int = 200, progress: Callable[[int], None] | None = None) -> int:
    """Encrypts with the current key what was encrypted with another; returns how many values. Others read and write meanwhile.

    A value that somebody else changes at that moment stays theirs. It can be broken off and called again. progress(values): after each
    batch, those that it went through.
    """
    done = 0
    for place in places(store):
        after: tuple[str, ...] = ()
        while rows := _older(store, place, f"v1.{vault.ring.current}.%", after, batch):
            done += _again(vault, writer, place, rows)
            if progress is not None:
                progress(len(rows))
            after = tuple(rows[-1][:-1])
    return done


def retire(store: Store, vault: Vault, key: str) -> None:
    """Takes a key out of the key file. VaultError: values are still written with it; `rotate` first."""
    in_use(store, key)
    vault.drop_key(key)


def in_use(store: Store, key: str) -> None:
    """VaultError: values are written with this key."""
    sa, looked_at = library("sqlalchemy", "the hall's database"), places(store)
    with store.database.read() as connection:
        for table, column, _ in looked_at:
            found = table.c[column]
            left = connection.execute(sa.select(sa.func.count()).where(found.like(f"v1.{key}.%"))).scalar()
            if left:
                raise VaultError(f"key {key}: {left} values of {table.name} are still written with it; rotate first")


def _keys(place: Place) -> list[Any]:
    table = place[0]
    if place[2] == "id" and table.name not in tables():
        return [table.c.id]
    return [table.c[place[2]], *([table.c.name] if "name" in table.c else [])]


def _older(store: Store, place: Place, like: str, after: tuple[str, ...], batch: int) -> list[Any]:
    """Up to `batch` rows (key…, value) that are not of the current key, beyond `after`."""
    sa = library("sqlalchemy", "the hall's database")
    keys, value = _keys(place), place[0].c[place[1]]
    query = sa.select(*keys, value).where(value.not_like(like)).order_by(*keys).limit(batch)
    if after:
        query = query.where(sa.tuple_(*keys) > sa.tuple_(*after) if len(keys) > 1 else keys[0] > after[0])
    with store.database.read() as connection:
        return list(connection.execute(query))


def _again(vault: Vault, writer: Writer, place: Place, rows: list[Any]) -> int:
    (table, column, _), keys = place, _keys(place)
    fresh = []
    for *key, value in rows:
        field = key[1] if len(key) > 1 else column
        fresh.append((key, value, vault.encrypt(table.name, key[0], field, vault.decrypt(table.name, key[0], field, value))))

    def write(connection: Any) -> int:
        done = 0
        for key, old, new in fresh:
            where = [column_ == part for column_, part in zip(keys, key, strict=True)]
            done += connection.execute(table.update().where(*where, table.c[column] == old).values({column: new})).rowcount
        return done

    return writer.submit(write)
