"""The audit: every way of changing it shows, nobody's name or number is in it, and its end is not lost."""

import hashlib
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason='the portal needs pip install "govlm[portal]"')


from govlm import cli
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.store import Store
from govlm.hall.protection.vault import Vault
from govlm.hall.protection.writer import Writer
from govlm.portal.audit import chain as chain_module
from govlm.portal.audit import sm3
from govlm.portal.audit.anchors import FILE, KEY, Anchors
from govlm.portal.audit.chain import Audit
from govlm.portal.audit.verify import Verified, verify
from govlm.portal.operations import retention
from govlm.portal.security.access import Principal
from govlm.portal.store.tables import tables, upgrade

CLERK = Principal("account:7", frozenset({"clerk", "citizen"}))
DAY = datetime(2026, 3, 5, 8, tzinfo=timezone.utc)


# ---- SM3 ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hashed", [sm3.digest, sm3.plain])
def test_the_vectors_of_the_standard(hashed: Callable[[bytes], bytes]) -> None:
    """GB/T 32905-2016, annex A."""
    assert hashed(b"abc").hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert hashed(b"abcd" * 16).hex() == "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"


def test_both_ways_are_one_function() -> None:
    for size in (0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000):
        data = bytes(i * 7 % 251 for i in range(size))
        assert sm3.plain(data) == sm3.digest(data), size
    if "sm3" in hashlib.algorithms_available:
        import hmac

        for key in (b"", b"k", b"k" * 64, b"k" * 65):
            assert sm3.mac(key, b"text") == hmac.new(key, b"text", "sm3").digest()


# ---- a store with an audit ----------------------------------------------------------------------------------------------------


class Place:
    """A database with an audit. clock: moved by the test."""

    def __init__(self, where: str, data: Path) -> None:
        data.mkdir(exist_ok=True)
        self.data, self.now = data, DAY
        self.store = Store.create(where)
        upgrade(self.store.database)
        self.writer = Writer(self.store)
        self.vault = Vault.of(self.store, data / "keys.json")
        self.anchors = Anchors(data)
        self.path = self.store.database.path

    def audit(self) -> Audit:
        return Audit(self.store.database, self.writer, self.vault, self.anchors, lambda: self.now)

    def filled(self, count: int = 6) -> str:
        """Writes a chain and closes it; its name."""
        audit = self.audit()
        for number in range(count):
            audit.record("item.publish", CLERK, f"item:{number}", {"number": number}).result(30)
        audit.close()
        return self.anchors.read()[0][-1].chain

    def rows(self) -> list[dict[str, Any]]:
        table = tables()["audit"]
        with self.store.database.read() as connection:
            found = connection.execute(table.select().order_by(table.c.at, table.c.chain, table.c.number)).mappings()
            return [dict(row) for row in found]

    def sql(self, text: str, **values: Any) -> int:
        import sqlalchemy

        with self.store.database.write(catalogue=False) as connection:
            return int(connection.execute(sqlalchemy.text(text), values).rowcount)

    def verify(self) -> Verified:
        return verify(self.store.database, Anchors(self.data, make=False))

    def close(self) -> None:
        self.writer.close()
        self.store.close()


@pytest.fixture
def place(target: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(target, tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Place]:
    made = Place(str(tmp_path / "catalogue.db"), tmp_path / "data")
    yield made
    made.close()


def kinds(found: Verified) -> list[tuple[str, int]]:
    return [(finding.kind, finding.number) for finding in found.findings]


# ---- what is kept -------------------------------------------------------------------------------------------------------------


def test_entries_are_kept_in_order_and_hang_together(place: Place) -> None:
    name = place.filled()
    rows = place.rows()
    assert [row["number"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {row["chain"] for row in rows} == {name}
    assert all(after["previous"] == before["digest"] for before, after in pairwise(rows))
    assert rows[0]["action"] == "item.publish" and json.loads(rows[2]["detail"]) == {"number": 2}
    found = place.verify()
    assert (found.sound, found.chains, found.entries, found.told) == (True, 1, 6, [])


def test_nobodys_number_is_in_an_entry(local: Place) -> None:
    audit = local.audit()
    detail = {
        "text": "身份证11010519491231002X，电话13812345678",
        "list": ["13812345678"],
        "digits": 13812345678,
        "13812345678": 1,
    }
    audit.record("session.erase", CLERK, "session:the-number", detail)
    audit.record("odd", None, "手机13812345678").result(30)
    audit.close()
    text = json.dumps(local.rows(), ensure_ascii=False)
    for secret in ("11010519491231002X", "13812345678", "account:7", "the-number"):
        assert secret not in text
    first, second = local.rows()
    assert first["actor"] == audit.actor("account:7") and first["role"] == "citizen,clerk"
    assert first["object"] == audit.object("session:the-number")
    assert second["actor"] == "portal"


def test_many_threads_write_one_chain(place: Place) -> None:
    audit = place.audit()

    def work() -> None:
        for _ in range(40):
            audit.record("count", CLERK)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit.close()
    found = place.verify()
    assert (found.sound, found.chains, found.entries) == (True, 1, 240)
    heads = [line.number for line in place.anchors.read()[0] if line.event == "head"]
    assert len(heads) >= 2 and all(after - before <= 64 + 256 for before, after in pairwise(heads))


def test_a_day_has_a_chain_of_its_own(local: Place) -> None:
    audit = local.audit()
    audit.record("one", CLERK).result(30)
    local.now += timedelta(days=1)
    audit.record("two", CLERK).result(30)
    audit.close()
    assert [(row["action"], row["number"]) for row in local.rows()] == [("one", 1), ("two", 1)]
    assert [line.event for line in local.anchors.read()[0]] == ["opened", "head", "closed", "opened", "head", "closed"]
    assert local.verify().sound


# ---- what is done to it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["at", "actor", "role", "action", "object", "detail", "previous", "digest"])
def test_a_changed_field_shows(local: Place, column: str) -> None:
    name = local.filled()
    assert local.sql(f"UPDATE portal_audit SET {column} = 'x' || {column} WHERE number = 3") == 1
    found = local.verify()
    assert ("changed", 3) in kinds(found) and {finding.chain for finding in found.findings} == {name}


def test_a_change_with_a_new_digest_shows(place: Place) -> None:
    """By one who knows how digests are made, and makes all that follow anew."""
    place.filled()
    rows = place.rows()
    rows[2]["actor"] = "somebody else"
    before = rows[1]["digest"]
    for row in rows[2:]:
        row["previous"] = before
        before = row["digest"] = chain_module.sealed(row)
        values = {name: row[name] for name in ("actor", "previous", "digest", "number")}
        place.sql("UPDATE portal_audit SET actor=:actor, previous=:previous, digest=:digest WHERE number=:number", **values)
    assert kinds(place.verify()) == [("changed", 6)]  # the one that was anchored at the end
    place.sql("UPDATE portal_audit SET digest='x' WHERE number=6")
    assert ("changed", 6) in kinds(place.verify())


def test_a_change_with_its_own_new_digest_names_the_entry(local: Place) -> None:
    local.filled()
    row = local.rows()[2]
    row["action"] = "nothing"
    local.sql("UPDATE portal_audit SET action='nothing', digest=:d WHERE number=3", d=chain_module.sealed(row))
    assert kinds(local.verify()) == [("changed", 3)]


def test_a_deleted_entry_shows(place: Place) -> None:
    place.filled()
    place.sql("DELETE FROM portal_audit WHERE number IN (3, 4)")
    found = place.verify()
    assert kinds(found) == [("deleted", 3)] and "3 to 4" in found.findings[0].text


def test_a_deleted_beginning_shows(local: Place) -> None:
    local.filled()
    local.sql("DELETE FROM portal_audit WHERE number = 1")
    assert kinds(local.verify()) == [("deleted", 1)]


def test_a_gap_that_is_closed_again_shows(local: Place) -> None:
    local.filled()
    local.sql("DELETE FROM portal_audit WHERE number = 3")
    for number in (4, 5, 6):
        local.sql("UPDATE portal_audit SET number = number - 1 WHERE number = :n", n=number)
    assert [kind for kind, _ in kinds(local.verify())] == ["reordered"] * 3 + ["cut_off"]


def test_two_that_changed_places_show(place: Place) -> None:
    place.filled()
    for old, new in ((3, 99), (4, 3), (99, 4)):
        place.sql("UPDATE portal_audit SET number = :new WHERE number = :old", old=old, new=new)
    found = place.verify()
    assert kinds(found) == [("reordered", 3), ("reordered", 4)]
    assert "written as 4" in found.findings[0].text


def test_a_cut_tail_shows(place: Place) -> None:
    place.filled()
    place.sql("DELETE FROM portal_audit WHERE number > 4")
    found = place.verify()
    assert kinds(found) == [("cut_off", 5)] and "5 to 6" in found.findings[0].text


def test_a_removed_chain_shows(place: Place) -> None:
    first, second = place.filled(), place.filled()
    assert first != second
    place.sql("DELETE FROM portal_audit WHERE chain = :c", c=first)
    found = place.verify()
    assert kinds(found) == [("chain_removed", 0)] and found.findings[0].chain == first


def test_a_chain_that_nobody_opened_shows(local: Place) -> None:
    name = local.filled()
    made_up = f"20260305T090000-00000000-{local.anchors.mark}"
    row = {**local.rows()[0], "chain": made_up, "previous": chain_module.genesis(made_up)}
    local.sql(
        "INSERT INTO portal_audit VALUES (:chain,:number,:at,:actor,:role,:action,:object,:detail,:previous,:digest)",
        **{**row, "digest": chain_module.sealed(row)},
    )
    found = local.verify()
    assert kinds(found) == [("chain_unknown", 0)] and name != found.findings[0].chain


def test_an_entry_behind_the_end_shows(local: Place) -> None:
    local.filled()
    row = local.rows()[-1]
    row |= {"number": 7, "previous": row["digest"]}
    local.sql(
        "INSERT INTO portal_audit VALUES (:chain,:number,:at,:actor,:role,:action,:object,:detail,:previous,:digest)",
        **{**row, "digest": chain_module.sealed(row)},
    )
    assert kinds(local.verify()) == [("added", 7)]


def test_what_is_done_to_the_anchors_shows(local: Place) -> None:
    local.filled()
    file = local.data / FILE
    lines = file.read_text("ascii").splitlines(keepends=True)
    for changed in (
        lines[:1] + lines[2:],  # one taken out
        [lines[1], lines[0], *lines[2:]],
        [*lines[:-1], lines[-1].replace('"number":6', '"number":5')],
        [*lines[:-1], lines[-1].replace('"closed"', '"head"')],
    ):
        file.write_text("".join(changed), "ascii")
        assert "anchor" in [kind for kind, _ in kinds(local.verify())], changed
    file.unlink()
    assert [kind for kind, _ in kinds(local.verify())] == ["chain_unknown"]
    file.write_text("".join(lines), "ascii")
    assert local.verify().sound


def test_a_line_that_a_power_cut_tore_is_told_and_the_next_is_whole(local: Place) -> None:
    local.filled()
    with (local.data / FILE).open("a") as handle:
        handle.write('{"at":"2026-03')
    local.filled()
    found = local.verify()
    assert found.sound and found.chains == 2 and "torn" in found.told[0].text


def test_a_key_is_never_made_beside_anchors(local: Place) -> None:
    local.filled()
    (local.data / KEY).unlink()
    with pytest.raises(CatalogueError, match="put back the copy"):
        Anchors(local.data)


def test_another_machines_chains_are_told(local: Place, tmp_path: Path) -> None:
    """Two machines on one database, each with its own anchors."""
    local.filled()
    other = tmp_path / "other"
    other.mkdir()
    theirs = Audit(local.store.database, local.writer, local.vault, Anchors(other), lambda: local.now)
    theirs.record("elsewhere", CLERK).result(30)
    theirs.close()
    found = local.verify()
    assert found.sound and found.chains == 2 and "another machine" in found.told[0].text


# ---- faults -------------------------------------------------------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from datetime import datetime, timezone
from govlm.hall.catalogue.store import Store
from govlm.hall.protection.vault import Vault
from govlm.hall.protection.writer import Writer
from govlm.portal.audit.anchors import Anchors
from govlm.portal.audit.chain import Audit
data = Path(sys.argv[2])
store = Store.open(sys.argv[1])
audit = Audit(store.database, Writer(store), Vault.of(store, data / "keys.json"), Anchors(data))
for number in range(20):
    audit.record("step", None, f"item:{number}").result(30)
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_worker_wrote_is_there_and_told(local: Place, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(local.path), str(local.data)], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert len(local.rows()) == 20
    found = local.verify()
    assert found.sound and "entries after its last anchor are accepted" in found.told[0].text


def test_a_full_disk_delays_entries_and_loses_none(local: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = local.audit()
    audit.record("before", CLERK).result(30)
    submit, failing = local.writer.submit, [True]

    def refused(work: Callable[[Any], Any]) -> Any:
        if failing[0]:
            raise CatalogueError("the disk is full; nothing was written")
        return submit(work)

    monkeypatch.setattr(local.writer, "submit", refused)
    waiting = [audit.record("while", CLERK, f"item:{number}") for number in range(5)]
    with pytest.raises(CatalogueError):
        waiting[0].result(30)  # who must know that it is kept is told that it is not yet
    more = [audit.record("while", CLERK, f"item:{number}") for number in range(5, 8)]
    failing[0] = False
    audit.record("after", CLERK)
    audit.close()
    assert all(future.done() for future in (*waiting, *more))
    assert [row["action"] for row in local.rows()] == ["before", *["while"] * 8, "after"]
    assert local.verify().sound


def test_a_commit_whose_answer_was_lost_is_not_written_twice(local: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    audit, submit, lost = local.audit(), local.writer.submit, [True]

    def unheard(work: Callable[[Any], Any]) -> Any:
        result = submit(work)
        if lost.pop() if lost else False:
            raise CatalogueError("the connection was lost")
        return result

    monkeypatch.setattr(local.writer, "submit", unheard)
    for number in range(4):
        audit.record("once", CLERK, f"item:{number}")
    audit.close()
    assert [row["object"] for row in local.rows()] == [f"item:{number}" for number in range(4)]
    assert local.verify().sound


def test_anchors_that_cannot_be_written_are_written_later(local: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    audit, append, failing = local.audit(), local.anchors.append, [True]

    def full(*values: Any) -> None:
        if failing[0]:
            raise OSError(28, "No space left on device")
        append(*values)

    monkeypatch.setattr(local.anchors, "append", full)
    first = audit.record("one", CLERK)
    with pytest.raises(CatalogueError):
        first.result(30)
    failing[0] = False
    audit.close()
    assert [row["action"] for row in local.rows()] == ["one"]
    assert local.verify().sound


def test_too_much_that_waits_is_refused(local: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "_BACKLOG", 3)
    monkeypatch.setattr(chain_module, "_MOST", 2)
    monkeypatch.setattr(chain_module, "_PATIENCE", 0.1)
    monkeypatch.setattr(local.writer, "submit", lambda work: (_ for _ in ()).throw(CatalogueError("gone")))
    audit = local.audit()
    with pytest.raises(CatalogueError, match="too much waits"):
        for _ in range(100):
            audit.record("more", CLERK)
    audit.close()
    with pytest.raises(CatalogueError, match="closed"):
        audit.record("late", CLERK)


# ---- kept for 180 days --------------------------------------------------------------------------------------------------------


def test_less_than_180_days_is_refused() -> None:
    with pytest.raises(ValueError, match="180"):
        retention.Policy.of({"audit": "179"})
    assert retention.Policy.of({"audit": "180"}).audit == 180
    with pytest.raises(ValueError, match="unknown"):
        retention.Policy.of({"audits": "200"})
    with pytest.raises(ValueError, match="no number of days"):
        retention.Policy.of({"audit": "-200"})


class HallOf:
    """What retention needs of a hall."""

    def __init__(self, place: Place) -> None:
        from govlm.hall.protection.people import People

        self.store, self.writer = place.store, place.writer
        self.people = People(place.store, place.vault, place.writer)


def test_retention_erases_whole_chains_and_says_so(place: Place) -> None:
    old = place.filled()
    place.now += timedelta(days=100)
    new = place.filled()
    hall: Any = HallOf(place)
    policy = retention.Policy.of({"audit": "200"})
    assert "portal_audit" not in retention.erase(hall, place.anchors, policy, DAY + timedelta(days=199))
    assert retention.erase(hall, place.anchors, policy, DAY + timedelta(days=201))["portal_audit"] == 6
    assert {row["chain"] for row in place.rows()} == {new} and old != new
    assert place.verify().sound


def test_an_erasure_that_came_too_early_shows(local: Place) -> None:
    """By one who has the key and deletes by hand."""
    name = local.filled()
    local.anchors.append("erased", name, 6, "", DAY + timedelta(days=30))
    local.sql("DELETE FROM portal_audit")
    assert kinds(local.verify()) == [("chain_removed", 0)]


# ---- the command and the API --------------------------------------------------------------------------------------------------


def test_the_command_names_what_it_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from portal_server import client

    with client(tmp_path) as portal:
        for number in range(3):
            portal.app.state.portal.audit.record("account.create", CLERK, f"account:{number}").result(30)
    data = tmp_path / "portal"
    assert cli.main(["audit", "verify", str(data)]) == 0
    assert "sound" in capsys.readouterr().out
    with sqlite3.connect(data / "hall" / "catalogue.db") as plain:
        plain.execute("UPDATE portal_audit SET object = 'account:9' WHERE number = 2")
    assert cli.main(["audit", "verify", str(data)]) == 1
    assert "entry 2 was changed" in capsys.readouterr().out
    assert cli.main(["audit", "verify", str(data), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["sound"] is False and found["findings"][0]["number"] == 2
    assert cli.main(["audit", "verify", str(tmp_path)]) == 1
    assert "no portal's data folder" in capsys.readouterr().err


def test_an_auditor_reads_and_verifies(tmp_path: Path) -> None:
    from portal_server import client

    from govlm.portal.security.access import current

    auditor = Principal("account:1", frozenset({"auditor"}))
    with client(tmp_path) as portal:
        audit = portal.app.state.portal.audit
        for number in range(5):
            audit.record("account.create" if number % 2 else "key.create", CLERK, f"account:{number}").result(30)
        assert portal.get("/v1/audit").status_code == 403
        portal.app.dependency_overrides[current] = lambda: auditor
        page = portal.get("/v1/audit", params={"limit": 2, "offset": 1, "action": "key", "actor": "account:7"}).json()
        assert page["total"] == 3 and [entry["object"] for entry in page["entries"]] == ["account:2", "account:0"]
        assert portal.get("/v1/audit", params={"object": "account:3"}).json()["total"] == 1
        assert portal.get("/v1/audit", params={"since": "2999-01-01"}).json()["total"] == 0
        assert portal.get("/v1/audit", params={"until": "2999-01-01"}).json()["total"] >= 5
        assert portal.get("/v1/audit", params={"since": "yesterday"}).status_code == 422
        found = portal.get("/v1/audit/verify").json()
        assert found["sound"] and found["entries"] >= 5
        portal.app.state.portal.hall.writer.submit(
            lambda connection: connection.exec_driver_sql("DELETE FROM portal_audit WHERE number = 2")
        )
        found = portal.get("/v1/audit/verify").json()
        assert [(finding["kind"], finding["number"]) for finding in found["findings"]] == [("deleted", 2)]
    with client(tmp_path) as portal:  # what was read is in the audit
        portal.app.dependency_overrides[current] = lambda: auditor
        assert portal.get("/v1/audit", params={"action": "audit."}).json()["total"] >= 6
