"""The catalogue's database: versions, one state for every reader, migrations, damage and backups; SQLite and PostgreSQL alike."""

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from databases import item, law

from govlm.hall.catalogue import database as database_module
from govlm.hall.catalogue.database import MIGRATIONS, REVISIONS, Database
from govlm.hall.catalogue.records import Document, Item, Material, Passage
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.store import Index, Store

pytest.importorskip("sqlalchemy", reason='the database needs pip install "govlm[hall]"')
pytest.importorskip("alembic", reason='the database needs pip install "govlm[hall]"')

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / ".." / "shared" / "data" / "gov" / "guangdong_service_items" / "items.jsonl"


@pytest.fixture
def store(target: str) -> Iterator[Store]:
    with Store.create(target) as made:
        yield made


# ---- versions --------------------------------------------------------------------------------------------------------


def test_a_new_catalogue_is_empty(store: Store, target: str) -> None:
    assert (store.version, store.items(), store.documents(), store.index, store.check()) == (0, [], [], None, [])
    assert store.item("A") is None and store.document("A") is None
    with pytest.raises(CatalogueError, match="already"):
        Store.create(target)
    assert "secret" not in repr(store)


def test_versions_of_the_catalogue_and_of_its_records(store: Store, target: str) -> None:
    first = [item("B"), item("A", materials=(Material("申请表", 2),), extra={"列": [None, 1.5]}), item("C")]
    assert store.put_items(first) == 1
    assert store.items() == first  # in the order in which they came
    assert store.put_items(first) == 1  # nothing changed
    assert store.put_items([item("A", fee="10元"), item("D"), first[0]]) == 2
    with store.snapshot() as view:
        assert view.item_versions() == {"B": 1, "A": 2, "C": 1, "D": 1}
        assert view.version == 2
    assert store.remove(["C", "none"]) == 3 and store.remove("C") == 3
    assert store.item("C") is None and len(store.items()) == 3
    assert store.put_items([item("C")]) == 4
    with store.snapshot() as view:
        assert view.item_versions()["C"] == 2  # a version is never borne twice
    assert store.put_items([item("Z")], replace_all=True) == 5
    assert [entry.code for entry in store.items()] == ["Z"]
    assert store.put_items([item("Z")], replace_all=True) == 5
    store.close()
    with Store.open(target) as again:
        assert again.version == 5 and [entry.code for entry in again.items()] == ["Z"]


def test_documents_with_their_passages(store: Store) -> None:
    documents = [law("国务院令第1号"), law("甲〔2024〕1号"), Document("K", "无段落", "一二三")]
    assert store.put_documents(documents) == 1
    assert store.documents() == documents and store.document("甲〔2024〕1号") == documents[1]
    changed = law("甲〔2024〕1号", "第一条 戊。")
    assert store.put(items=[item("A")], documents=[changed]) == 2  # one transaction, one version
    assert store.document(changed.code) == changed
    with store.snapshot() as view:
        assert view.document_versions() == {"国务院令第1号": 1, "甲〔2024〕1号": 2, "K": 1}
    assert store.remove_documents("K") == 3 and store.document("K") is None and store.check() == []


def test_what_cannot_be_kept_is_refused_whole(store: Store) -> None:
    store.put_items([item("A")])
    for items in ([item("B"), item("B")], [item("B"), item("")], [item("B"), replace(item("C"), name="")]):
        with pytest.raises(CatalogueError):
            store.put_items(items)
    outside = replace(law("L"), passages=(Passage("第一条", 0, 10**6),))
    twice = replace(law("L"), passages=(Passage("第一条", 0, 2), Passage("第一条", 2, 4)))
    for document in (outside, twice, replace(law("L"), code="")):
        with pytest.raises(CatalogueError):
            store.put([item("B")], [document])
    assert [entry.code for entry in store.items()] == ["A"] and store.version == 1


def test_texts_that_databases_do_not_like(store: Store) -> None:
    odd = [
        item("a'; DROP TABLE items; --", name="%_\\\"'"),
        item("码\x00", name="名\x00称\ud800", fee="\x00\ud83d"),
        item("长" * 500, name="x", notes=("\u2028\U0001f600",)),
    ]
    store.put_items(odd)
    assert store.items() == odd and [store.item(entry.code) for entry in odd] == odd and store.check() == []


# ---- what is asked for -----------------------------------------------------------------------------------------------


def test_in_force_by_the_callers_clock(store: Store) -> None:
    store.put_items([item("A"), item("B", valid_from=date(2024, 3, 1)), item("C", valid_to=date(2024, 2, 29))])
    store.put_documents([replace(law("L"), valid_from=date(2024, 3, 1), valid_to=date(2024, 12, 31))])

    def codes(day: date) -> str:
        return "".join(entry.code for entry in [*store.items(on=day), *store.documents(on=day)])

    assert codes(date(2024, 2, 29)) == "AC" and codes(date(2024, 3, 1)) == "ABL"
    assert codes(date(2024, 12, 31)) == "ABL" and codes(date(2025, 1, 1)) == "AB"
    assert codes(date(1, 1, 1)) == "AC" and codes(date(9999, 12, 31)) == "AB"


def test_the_database_is_never_asked_for_the_time() -> None:
    for path in (ROOT / "govlm" / "hall" / "catalogue").rglob("*.py"):
        text = path.read_text(encoding="utf-8").lower()
        assert not any(word in text for word in ("current_date", "current_timestamp", "func.now", "date('now')", ".today()")), (
            path
        )


def test_regions_levels_and_audiences(store: Store) -> None:
    store.put_items(
        [
            item("全国"), item("省", region="44", level="省级"), item("市", region="4401", level="市级", audiences=("自然人",)),
            item("区", region="440106", level="县级"), item("他市", region="4403", level="市级", audiences=("企业法人",)),
        ]
    )  # fmt: skip

    def codes(**asked: str) -> list[str]:
        return [entry.code for entry in store.items(**asked)]

    assert codes(region="440106") == ["全国", "省", "市", "区"]
    assert codes(region="4401") == ["全国", "省", "市"] and codes(region="") == ["全国"]
    assert codes(level="市级") == ["市", "他市"] and codes(region="44", level="省级") == ["省"]
    assert codes(audience="企业法人") == ["全国", "省", "区", "他市"]


def test_an_index_is_published_at_once_and_never_an_older_one(store: Store) -> None:
    store.put_items([item("A")])
    assert store.publish_index("g1", 1) and store.index == Index("g1", 1)
    store.put_items([item("B")])
    assert store.publish_index("g2", 2) and not store.publish_index("g1b", 1)
    assert store.index == Index("g2", 2) and store.version == 2


# ---- readers and writers ---------------------------------------------------------------------------------------------


def test_a_snapshot_stays_as_it_was(store: Store) -> None:
    store.put_items([item("A")])
    with store.snapshot() as view:
        assert view.version == 1
        store.put_items([item("B")], replace_all=True)
        assert (view.version, [entry.code for entry in view.items()]) == (1, ["A"])
        assert view.item("B") is None
    assert [entry.code for entry in store.items()] == ["B"]


def test_readers_see_whole_catalogues_while_one_is_replaced(store: Store) -> None:
    """Generation n is 40 items and 3 documents that all say n; whoever reads must find one n everywhere, and never an error."""

    def generation(number: int) -> tuple[list[Item], list[Document]]:
        items = [item(f"{number % 3}-{i}", fee=str(number)) for i in range(40)]
        return items, [law(f"L{i}", f"第一条 第{number}代。\n第二条 完。") for i in range(3)]

    store.put(*generation(0), replace_all=True)
    done = threading.Event()
    failures: list[BaseException] = []
    seen: set[str] = set()

    def read() -> None:
        try:
            while not done.is_set():
                with store.snapshot() as view:
                    items, documents = view.items(), view.documents()
                    version = view.version
                assert len(items) == 40 and len(documents) == 3
                numbers = {entry.fee for entry in items} | {entry.text.split("第", 2)[2].split("代")[0] for entry in documents}
                assert numbers == {str(version - 1)}, numbers
                seen.update(numbers)
        except BaseException as error:
            failures.append(error)

    def write(numbers: range) -> None:
        try:
            for number in numbers:
                store.put(*generation(number), replace_all=True)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    write(range(1, 25))
    done.set()
    for thread in readers:
        thread.join(60)
    assert not failures and len(seen) > 1 and store.version == 25


def test_many_readers_at_once(store: Store) -> None:
    """More than a pool of connections usually holds."""
    store.put_items([item("A")])
    views = [store.snapshot() for _ in range(20)]
    with contextlib.ExitStack() as stack:
        assert [stack.enter_context(view).version for view in views] == [1] * 20


def test_writers_come_one_after_another(store: Store) -> None:
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for number in range(8):
                store.put_items([item(f"{name}{number}")])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures and store.version == 32 and len(store.items()) == 32


def test_a_process_that_dies_while_it_writes_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    with Store.create(path) as store:
        store.put_items([item("A")])
    code = (
        "import os, sys\n"
        "from govlm.hall.catalogue import store as module\n"
        "from govlm.hall.catalogue.records import Item\n"
        "module._Writer.finish = lambda self: os._exit(9)\n"  # after the rows, before the version
        "module.Store.open(sys.argv[1]).put_items([Item('B', 'b')], replace_all=True)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    with Store.open(path) as store:
        assert [entry.code for entry in store.items()] == ["A"] and store.version == 1 and store.check() == []
        assert store.put_items([item("B")]) == 2


# ---- migrations ------------------------------------------------------------------------------------------------------


def test_the_revisions_are_those_of_the_scripts() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == REVISIONS


def test_an_older_catalogue_is_upgraded_and_a_newer_one_refused(
    store: Store, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_items([item("A")])
    store.close()
    later = tmp_path / "100% later"  # a % would be alembic's own sign
    shutil.copytree(MIGRATIONS, later, ignore=shutil.ignore_patterns("__pycache__"))
    (later / "versions" / "v0004_later.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision = '0004'\ndown_revision = '0003'\n\n"
        "def upgrade():\n    op.add_column('items', sa.Column('colour', sa.Text))\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "MIGRATIONS", later)
        patch.setattr(database_module, "REVISIONS", (*REVISIONS, "0004"))
        with Store.open(target) as newer:
            assert [entry.code for entry in newer.items()] == ["A"]
            with newer._database.read() as connection:
                assert connection.exec_driver_sql("SELECT colour FROM items").all() == [(None,)]
    with pytest.raises(CatalogueError) as error:
        Store.open(target)
    assert "newer govlm" in str(error.value) and "0004" in str(error.value) and "secret" not in str(error.value)


def test_a_migration_that_fails_changes_nothing(
    store: Store, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_items([item("A")])
    store.close()
    later = tmp_path / "later"
    shutil.copytree(MIGRATIONS, later, ignore=shutil.ignore_patterns("__pycache__"))
    (later / "versions" / "v0004_later.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision = '0004'\ndown_revision = '0003'\n\n"
        "def upgrade():\n    op.add_column('items', sa.Column('colour', sa.Text))\n    op.execute('SELECT nothing FROM nowhere')\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "MIGRATIONS", later)
        patch.setattr(database_module, "REVISIONS", (*REVISIONS, "0004"))
        with pytest.raises(CatalogueError):
            Store.open(target)
    with Store.open(target) as again:
        assert [entry.code for entry in again.items()] == ["A"]


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def refused(act: Callable[[], object], *words: str) -> None:
    with pytest.raises(CatalogueError) as error:
        act()
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_no_catalogue_there(tmp_path: Path) -> None:
    refused(lambda: Store.open(tmp_path / "none.db"), "none.db", "Store.create")
    assert not (tmp_path / "none.db").exists()
    refused(lambda: Store.create(tmp_path / "no folder" / "x.db"), "cannot be opened")
    (tmp_path / "empty.db").touch()
    refused(lambda: Store.open(tmp_path / "empty.db"), "no catalogue")
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE photos (x)")
    refused(lambda: Store.open(tmp_path / "other.db"), "photos", "no catalogue")
    refused(lambda: Store.open("mysql://host/hall"), "mysql", "PostgreSQL")
    refused(lambda: Store.open("sqlite://"), "file")


def test_a_server_that_is_not_there() -> None:
    pytest.importorskip("psycopg")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(CatalogueError) as error:
        Store.open(f"postgresql://hall:secret@127.0.0.1:{port}/hall")
    assert "secret" not in str(error.value) and "\n" not in str(error.value) and str(port) in str(error.value)


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "head":
        path.write_bytes(b"\x00" * 100 + whole[100:])
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "middle":
        path.write_bytes(whole[:8192] + os.urandom(8192) + whole[16384:])
    else:
        path.write_text("this was a database\n" * 1000)


@pytest.mark.parametrize("how", ["head", "cut", "middle", "text"])
def test_a_damaged_database_says_so_and_a_backup_takes_its_place(tmp_path: Path, how: str) -> None:
    path, backup = tmp_path / "catalogue.db", tmp_path / "backup.db"
    items = [item(f"A{i}", fee="元" * 50) for i in range(200)]
    with Store.create(path) as store:
        store.put(items, [law("L")])
        store.publish_index("g", 1)
        store.backup(backup)
    damage(path, how)
    refused(lambda: Store.open(path), "catalogue.db", "damaged", "Store.recover", "backup")
    broken = path.read_bytes()
    with Store.recover(path, backup) as store:
        assert store.items() == items and store.document("L") == law("L") and store.check() == []
        assert store.version == 1 and store.index is None  # the index is built anew
        assert store.put_items([item("B")]) == 2
    assert (tmp_path / "catalogue.db.damaged").read_bytes() == broken


def test_a_record_that_is_damaged_is_named(store: Store) -> None:
    store.put_items([item("A"), item("B")])
    with store._database.write() as connection:
        connection.exec_driver_sql("""UPDATE items SET record = '{"code": ' WHERE code = 'B'""")
    refused(store.items, "damaged", "Store.recover")
    assert len(store.check()) == 1 and store.item("A") == item("A")


def test_a_damaged_backup_changes_nothing(store: Store, tmp_path: Path) -> None:
    store.put_items([item("A")])
    store.backup(tmp_path / "backup.db")
    store.put_items([item("B")])
    damage(tmp_path / "backup.db", "cut")
    refused(lambda: store.restore(tmp_path / "backup.db"), "backup.db", "damaged")
    refused(lambda: store.restore(tmp_path / "none.db"), "none.db")
    assert len(store.items()) == 2 and store.version == 2


def test_backup_and_restore_while_the_catalogue_is_read(store: Store, tmp_path: Path) -> None:
    documents = [law("L"), law("M", "第一条 戊。")]
    store.put([item("A", fee="1"), item("B")], documents)
    store.backup(tmp_path / "backup.db")
    assert sorted(entry.name for entry in tmp_path.glob("backup.db*")) == ["backup.db"]
    assert (tmp_path / "backup.db").read_bytes()[
        18:20
    ] == b"\x01\x01"  # no log beside it: it can be read from where nothing is written
    store.put([item("A", fee="2")], [law("N")], replace_all=True)
    with store.snapshot() as view:
        assert store.restore(tmp_path / "backup.db") == 3
        assert view.item("A") == item("A", fee="2")
    assert store.items() == [item("A", fee="1"), item("B")] and store.documents() == documents
    with store.snapshot() as view:
        assert view.item_versions() == {"A": 3, "B": 2}  # later than all that went before
    store.backup(tmp_path / "backup.db")  # replaces the older one
    with Store.open(tmp_path / "backup.db") as copy:
        assert copy.items() == store.items() and copy.version == 3


def test_a_full_disk_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    with Store.create(path) as store:
        store.put_items([item("A")])
        with store._database.write() as connection:  # SQLite's own limit stands for the disk
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        import sqlalchemy

        sqlalchemy.event.listen(
            store._database.engine, "begin", lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
        )
        refused(lambda: store.put_items([item(f"B{i}", fee="元" * 9000) for i in range(20)]), "full", "nothing was written")
        assert [entry.code for entry in store.items()] == ["A"] and store.version == 1


def test_without_the_libraries_the_extra_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules[sys.argv[1]] = None\n"
        "from govlm.hall.catalogue.report import CatalogueError\n"
        "from govlm.hall.catalogue.store import Store\n"
        "try:\n    Store.create(sys.argv[2])\nexcept CatalogueError as error:\n    print(error)\n"
    )
    for module, url, extra in (
        ("sqlalchemy", "x.db", "govlm[hall]"),
        ("alembic", "y.db", "govlm[hall]"),
        ("psycopg", "postgresql://h/x", "govlm[postgresql]"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, module, url], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert extra in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())  # a catalogue that could not be made leaves nothing behind


def test_importing_the_catalogue_is_light() -> None:
    code = "import sys; from govlm.hall.catalogue import columns, documents, store; print(' '.join(sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & {"sqlalchemy", "alembic", "openpyxl", "docx", "pypdf", "trafilatura", "fastapi", "flask", "torch"}


def test_the_files_of_the_package_are_packaged() -> None:
    """What the wheel takes: packages with an __init__, and the data named in pyproject.toml."""
    folder = ROOT / "govlm" / "hall" / "catalogue"
    for path in folder.rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), path
    named = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            pattern = f"{path.parent.relative_to(ROOT / 'govlm').as_posix()}/*{path.suffix}"
            assert f'"{pattern}"' in named, pattern


# ---- the 2,262 real items --------------------------------------------------------------------------------------------


def test_the_real_items_in_the_database(store: Store) -> None:
    if not REAL.exists():
        pytest.skip("the real items beside the project are missing (../shared/data/gov/guangdong_service_items)")
    from govlm.hall.catalogue.columns import import_items, to_row
    from govlm.hall.catalogue.mapping import builtin

    items, _ = import_items(REAL)
    assert store.put_items(items) == 1
    found = store.items()
    assert found == items
    rows = [json.loads(line) for line in REAL.read_text(encoding="utf-8").splitlines()]
    assert [to_row(entry, builtin()[0]) for entry in found] == rows
    assert len(store.items(region="44")) == sum(row["AREACODE"] == "440000" for row in rows)


def test_only_a_file_is_recovered(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    refused(lambda: Store.recover("postgresql://hall:secret@127.0.0.1/hall", tmp_path / "b.db"), "only a file", "restore")


def test_a_url_keeps_its_password_out_of_messages() -> None:
    pytest.importorskip("psycopg")
    assert "secret" not in Database("postgresql://hall:secret@127.0.0.1/hall").name
