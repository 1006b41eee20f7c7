"""People's data: nothing in the clear, nothing half written, nothing without consent, and everything erased that is to be."""

import base64
import json
import multiprocessing
import os
import secrets
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason='the database needs pip install "govlm[hall]"')
pytest.importorskip("alembic", reason='the database needs pip install "govlm[hall]"')
pytest.importorskip("cryptography", reason='people\'s data needs pip install "govlm[hall]"')

from databases import item, law

from govlm import cli
from govlm.hall import Hall
from govlm.hall.catalogue.database import tables
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.store import Store
from govlm.hall.protection.keys import Keyring
from govlm.hall.protection.people import ConsentError, People, Policy
from govlm.hall.protection.rotation import retire, rotate
from govlm.hall.protection.sessions import Exchange, Saved, Sessions, StaleSession, Submission
from govlm.hall.protection.vault import Vault, VaultError
from govlm.hall.protection.writer import Writer

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=timezone.utc)
CARD = "11010519491231002X"  # the example of GB 11643: check digit right
VALUES = {"applicant_name": "欧阳测试", "id_number": CARD, "mobile": "13800138000"}


class Place:
    """A store with its vault, writer, sessions and people."""

    def __init__(self, store: Store, keys: Path, cipher: str = "AES-256-GCM") -> None:
        self.store, self.vault, self.writer = store, Vault.of(store, keys, cipher), Writer(store)
        self.sessions, self.people = Sessions(store, self.vault, self.writer), People(store, self.vault, self.writer)


@pytest.fixture
def place(target: str, tmp_path: Path) -> Iterator[Place]:
    with Store.create(target) as store:
        made = Place(store, tmp_path / "keys.json")
        yield made
        made.writer.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Place]:
    """On SQLite."""
    with Store.create(tmp_path / "local.db") as store:
        made = Place(store, tmp_path / "local-keys.json")
        yield made
        made.writer.close()


def submission(key: str = "once") -> Submission:
    return Submission(key, "A", "3", "dibao", "1", VALUES)


# ---- keys and values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", ["AES-256-GCM", "SM4-GCM"])
def test_a_value_comes_back_in_its_place_and_nowhere_else(cipher: str) -> None:
    vault = Vault(Keyring.new(cipher))
    for value in ("", CARD, "名\x00\U0001f600\ud800", "长" * 5000):
        kept = vault.encrypt("people", "r", "f", value)
        assert vault.decrypt("people", "r", "f", kept) == value
        assert kept != vault.encrypt("people", "r", "f", value) and (not value or value not in kept)
        for place in (
            ("person", "r", "f"),
            ("people", "s", "f"),
            ("people", "r", "g"),
            ("people", "", "rf"),
            ("people", "rf", ""),
        ):
            with pytest.raises(VaultError):
                vault.decrypt(*place, kept)


@pytest.mark.parametrize("cipher", ["AES-256-GCM", "SM4-GCM"])
def test_a_changed_value_and_a_wrong_key_are_one_clear_error(cipher: str) -> None:
    vault = Vault(Keyring.new(cipher))
    kept = vault.encrypt("t", "r", "f", CARD)
    head, _, body = kept.rpartition(".")
    changed = f"{head}.{body[:20]}{'A' if body[20] != 'A' else 'B'}{body[21:]}"
    other = Vault(Keyring.new(cipher))
    same_name = Vault(Keyring(vault.ring.current, {vault.ring.current: other.ring.keys[other.ring.current]}, b"0" * 32))
    for bad_vault, bad in (
        (vault, changed),
        (other, kept),
        (same_name, kept),
        (vault, "x"),
        (vault, ""),
        (vault, CARD),
        (vault, "v1.a.é"),
    ):
        with pytest.raises(VaultError) as error:
            bad_vault.decrypt("t", "r", "f", bad)
        text = str(error.value) + repr(error.value) + repr(bad_vault) + repr(bad_vault.ring.keys)
        assert CARD not in text and "\n" not in str(error.value) and body[:12] not in text
        for key in bad_vault.ring.keys.values():
            assert repr(key.secret) not in text


def test_sm4_is_the_standards() -> None:
    """RFC 8998, appendix A.1: SM4-GCM."""
    from govlm.hall.protection import vault as module
    from govlm.hall.protection.keys import Key

    key = Key("SM4-GCM", bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    plain = bytes.fromhex(
        "AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCCDDDDDDDDDDDDDDDDEEEEEEEEEEEEEEEEFFFFFFFFFFFFFFFFEEEEEEEEEEEEEEEEAAAAAAAAAAAAAAAA"
    )
    sealed = module._seal(
        key, bytes.fromhex("00001234567800000000ABCD"), plain, bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
    )
    assert sealed.hex().upper() == (
        "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
        "83DE3541E4C2B58177E065A9BF7B62EC"
    )  # fmt: skip


def test_the_key_file_is_its_owners_alone_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("GOVLM_KEYS", "")
    kept = Vault.open(path).encrypt("t", "r", "f", "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]
    assert not Keyring.new().save(path, new=True)  # another process that was second
    assert Vault.open(path).decrypt("t", "r", "f", kept) == "x"
    monkeypatch.setenv("GOVLM_KEYS", path.read_text())
    given = Vault.open(tmp_path / "none.json")
    assert given.decrypt("t", "r", "f", kept) == "x" and not (tmp_path / "none.json").exists()
    with pytest.raises(VaultError, match="GOVLM_KEYS"):
        given.add_key()
    monkeypatch.setenv("GOVLM_KEYS", str(path))
    assert Vault.open(tmp_path / "none.json").decrypt("t", "r", "f", kept) == "x"
    monkeypatch.setenv("GOVLM_KEYS", str(tmp_path / "lost.json"))
    with pytest.raises(VaultError, match=r"lost\.json"):
        Vault.open(path)
    assert not (tmp_path / "lost.json").exists()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"format": 2}', '{"format": 1, "current": "a", "keys": {}, "pseudonyms": ""}', "\x00"]
)
def test_a_damaged_key_file_says_so_without_its_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(VaultError, match=r"keys\.json") as error:
        Vault.open(tmp_path / "keys.json")
    assert "\n" not in str(error.value)


def test_a_lost_or_foreign_key_file_is_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="not there"):
        Vault.of(place.store, tmp_path / "lost.json")
    assert not (tmp_path / "lost.json").exists()  # a new key would hide all that is there
    Keyring.new().save(tmp_path / "other.json")
    with pytest.raises(VaultError, match="not the key file"):
        Vault.of(place.store, tmp_path / "other.json")
    assert Vault.of(place.store, tmp_path / "keys.json").pseudonym("person", "p") == place.vault.pseudonym("person", "p")


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_comes_back(place: Place) -> None:
    assert place.sessions.load("s") == Saved(0, None, {})
    state = {"step": "ask", "问": ["姓名", None, 1.5]}
    assert place.sessions.save("s", 0, state, VALUES, now=NOW) == 1
    assert place.sessions.load("s") == Saved(1, state, VALUES)
    assert place.sessions.save("s", 1, {}, {"mobile": "x"}, now=NOW) == 2
    assert place.sessions.load("s") == Saved(2, {}, {"mobile": "x"})
    assert place.sessions.load("t") == Saved(0, None, {})
    assert place.sessions.forget("s") and not place.sessions.forget("s")
    assert place.sessions.load("s") == Saved(0, None, {}) and place.store.check() == []


def test_a_turn_that_was_overtaken_is_refused_whole(place: Place) -> None:
    place.sessions.save("s", 0, {"n": 1}, {}, now=NOW)
    for version in (0, 2, 7):
        with pytest.raises(StaleSession):
            place.sessions.save("s", version, {"n": 2}, VALUES, now=NOW, submission=submission())
    assert place.sessions.load("s") == Saved(1, {"n": 1}, {}) and place.sessions.submissions("s") == []


@pytest.mark.parametrize("version", [0, 1])
def test_of_two_threads_with_one_session_one_goes_on(place: Place, version: int) -> None:
    """Two processes' worth: each has its own writer."""
    if version:
        place.sessions.save("s", 0, {}, {}, now=NOW)
    writers = [Writer(place.store) for _ in range(4)]
    start, results = threading.Barrier(4), []

    def turn(number: int) -> None:
        start.wait()
        try:
            Sessions(place.store, place.vault, writers[number]).save("s", version, {"n": number}, {"n": str(number)}, now=NOW)
            results.append(number)
        except StaleSession:
            results.append(None)

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for writer in writers:
        writer.close()
    (won,) = [number for number in results if number is not None]
    assert len(results) == 4 and place.sessions.load("s") == Saved(version + 1, {"n": won}, {"n": str(won)})


def test_what_is_handed_in_twice_is_kept_once(place: Place) -> None:
    first = submission()
    place.sessions.save("s", 0, {}, VALUES, now=NOW, submission=first)
    again = Submission("once", "B", "9", "other", "2", {"x": "y"})
    assert place.sessions.save("s", 1, {"again": True}, VALUES, now=NOW, submission=again) == 2  # the turn itself goes on
    place.sessions.save("s", 2, {}, {}, now=NOW + timedelta(1), submission=submission("twice"))
    assert place.sessions.submissions("s") == [first, submission("twice")]
    place.sessions.forget("s")
    assert len(place.sessions.submissions("s")) == 2 and place.sessions.submissions("t") == []


def test_an_identity_number_needs_consent(place: Place) -> None:
    sessions = Sessions(place.store, place.vault, place.writer, place.people)
    assert sessions.save("s", 0, {}, {"applicant_name": "欧阳测试"}, now=NOW) == 1
    for values, handed in (({"x": f"我的号是{CARD}"}, None), ({}, submission())):
        with pytest.raises(ConsentError):
            sessions.save("s", 1, {}, values, now=NOW, submission=handed)
    assert sessions.load("s").version == 1
    place.people.consent_session("s", "handling", "2026-1", now=NOW)
    assert sessions.save("s", 1, {}, VALUES, now=NOW) == 2
    place.people.consent("p", "handling", "2026-1", now=NOW)
    sessions.save("t", 0, {}, {}, now=NOW)
    place.people.attach("p", "t", now=NOW)
    assert sessions.save("t", 1, {}, VALUES, now=NOW) == 2
    place.people.withdraw("p", "handling", now=NOW)
    with pytest.raises(ConsentError):
        sessions.save("t", 2, {}, VALUES, now=NOW)


# ---- the writer ------------------------------------------------------------------------------------------------------


def test_writes_of_many_threads_share_transactions_and_one_that_fails_fails_alone(place: Place) -> None:
    commits: list[object] = []
    import sqlalchemy

    sqlalchemy.event.listen(place.store.database.engine, "commit", commits.append)
    gate, held = threading.Event(), threading.Event()

    def hold(connection: object) -> None:
        held.set()
        gate.wait(60)

    results: dict[int, object] = {}

    def turn(number: int) -> None:
        try:
            version = 5 if number % 4 == 0 else 0
            results[number] = place.sessions.save(f"s{number}", version, {"n": number}, VALUES, now=NOW)
        except Exception as error:
            results[number] = error

    first = threading.Thread(target=place.writer.submit, args=(hold,))
    first.start()
    held.wait(60)
    threads = [threading.Thread(target=turn, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    while place.writer._jobs.qsize() < 40:
        time.sleep(0.01)
    assert not results  # nobody is answered before the commit
    before = len(commits)
    gate.set()
    for thread in [first, *threads]:
        thread.join(60)
    assert len(commits) - before == 2  # the one that was held, and all forty
    for number in range(40):
        assert isinstance(results[number], StaleSession) if number % 4 == 0 else results[number] == 1
        assert place.sessions.load(f"s{number}").version == (0 if number % 4 == 0 else 1)


def test_an_error_of_the_database_tells_no_value(place: Place) -> None:
    def twice(connection: object) -> None:
        from govlm.hall.catalogue.database import tables

        for _ in range(2):
            connection.execute(tables()["meta"].insert().values(key="canary", value=CARD))

    with pytest.raises(CatalogueError) as error:
        place.writer.submit(twice)
    assert CARD not in str(error.value) and "\n" not in str(error.value) and "secret" not in str(error.value)
    assert place.sessions.save("s", 0, {}, {}, now=NOW) == 1


def test_a_write_that_fails_alone_leaves_nothing(place: Place) -> None:
    table = tables()["sessions"]
    row = {"session": "x", "person": "", "version": 1, "state": "", "created": "", "seen": ""}

    def half(connection: Any) -> None:
        connection.execute(table.insert().values(row))
        raise LookupError("half done")

    with pytest.raises(LookupError, match="half done"):
        place.writer.submit(half)
    with place.store.database.read() as connection:
        assert connection.execute(table.select()).all() == []
    assert place.sessions.save("after", 0, {}, {}, now=NOW) == 1


def test_a_turn_is_found_by_its_key(place: Place) -> None:
    said = Exchange(1, "我想申请低保", {"text": "好的。"}, "k1")
    place.sessions.save("s", 0, {"n": 1}, VALUES, now=NOW, exchange=said)
    place.sessions.save("t", 0, {}, {}, now=NOW, exchange=Exchange(1, "别人的", {}, "k1"))
    found = place.sessions.load("s", "k1")
    assert (found.version, found.state, found.values) == (1, {"n": 1}, VALUES)
    assert found.exchange is not None and found.exchange.message == said.message and found.exchange.at
    assert place.sessions.load("s", "k2").exchange is None and place.sessions.load("s").exchange is None


def test_another_file_in_the_place_of_the_database_is_read(local: Place, tmp_path: Path) -> None:
    """As after a backup was put back: a connection that is kept would go on with the file that is gone."""
    local.sessions.save("s", 0, {"n": 1}, {}, now=NOW)
    assert local.sessions.load("s").version == 1
    local.store.backup(tmp_path / "other.db", people=True)
    local.sessions.save("s", 1, {"n": 2}, {}, now=NOW)
    assert local.sessions.load("s").version == 2
    for ending in ("-wal", "-shm"):
        (tmp_path / f"local.db{ending}").unlink(missing_ok=True)
    (tmp_path / "other.db").replace(tmp_path / "local.db")
    assert local.sessions.load("s").version == 1


def test_closing_writes_what_is_waiting_and_refuses_the_rest(local: Place) -> None:
    gate, begun, results = threading.Event(), threading.Event(), []

    def hold(connection: object) -> None:
        begun.set()
        gate.wait(60)

    threads = [threading.Thread(target=local.writer.submit, args=(hold,))]
    threads[0].start()
    assert begun.wait(60)  # the others wait behind it, not beside it
    threads += [
        threading.Thread(target=lambda n=n: results.append(local.sessions.save(f"s{n}", 0, {}, {}, now=NOW))) for n in range(5)
    ]
    for thread in threads[1:]:
        thread.start()
    while local.writer._jobs.qsize() < 5 and not gate.wait(0.01) and any(thread.is_alive() for thread in threads[1:]):
        pass
    closing = threading.Thread(target=local.writer.close)
    closing.start()
    gate.set()
    for thread in [closing, *threads]:
        thread.join(60)
    assert results == [1] * 5
    with pytest.raises(CatalogueError, match="closed"):
        local.sessions.save("late", 0, {}, {}, now=NOW)
    local.writer.close()


def test_a_full_disk_refuses_the_whole_turn(local: Place) -> None:
    import sqlalchemy

    local.sessions.save("s", 0, {"n": 1}, {"a": "1"}, now=NOW)
    with local.store.database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    limit = [pages + 2]
    sqlalchemy.event.listen(
        local.store.database.engine, "begin", lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={limit[0]}")
    )
    big = {f"f{i}": "长" * 9000 for i in range(5)}
    with pytest.raises(CatalogueError, match="disk is full") as error:
        local.sessions.save("s", 1, {"n": 2}, big, now=NOW, submission=submission())
    assert "nothing was written" in str(error.value) and not isinstance(error.value, StaleSession)
    assert local.sessions.load("s") == Saved(1, {"n": 1}, {"a": "1"}) and local.sessions.submissions("s") == []
    limit[0] = 1 << 30
    assert local.sessions.save("s", 1, {"n": 2}, big, now=NOW) == 2  # when there is room again, the same turn goes through


def _turns(path: str, keys: str, told: object) -> None:
    place = Place(Store.open(path), Path(keys))

    def talk(name: str) -> None:
        version = place.sessions.load(name).version
        while True:
            turn = version + 1
            values = {f"f{i}": f"{turn}-{CARD}" for i in range(6)}
            handed = Submission(f"{name}-{turn}", "A", str(turn), "f", "1", values)
            version = place.sessions.save(name, version, {"turn": turn}, values, now=NOW, submission=handed)
            told.put((name, version))

    for name in ("a", "b", "c"):
        threading.Thread(target=talk, args=(name,)).start()


def test_killed_between_writes_every_turn_is_whole_and_none_that_was_told_is_lost(tmp_path: Path) -> None:
    path, keys = tmp_path / "hall.db", tmp_path / "keys.json"
    Store.create(path).close()
    context = multiprocessing.get_context("spawn")
    last: dict[str, int] = {}
    for _ in range(3):
        told = context.SimpleQueue()
        process = context.Process(target=_turns, args=(str(path), str(keys), told))
        process.start()
        for _ in range(10 + secrets.randbelow(20)):
            name, version = told.get()
            last[name] = version
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        while not told.empty():
            name, version = told.get()
            last[name] = version
        with Store.open(path) as store:
            place = Place(store, keys)
            assert store.check() == []
            for name in last:
                saved = place.sessions.load(name)
                assert saved.version >= last[name] and saved.state == {"turn": saved.version}
                assert saved.values == {f"f{i}": f"{saved.version}-{CARD}" for i in range(6)}
                handed = place.sessions.submissions(name)
                assert sorted(int(entry.item_version) for entry in handed) == list(range(1, saved.version + 1))
                assert all(len(entry.values) == 6 for entry in handed)
            place.writer.close()


# ---- people ----------------------------------------------------------------------------------------------------------


def full(place: Place, person: str = "p", session: str = "s") -> None:
    """Everything that can be kept of somebody, by every way in."""
    for purpose in ("handling", "profile"):
        place.people.consent(person, purpose, "2026-1", now=NOW)
    place.people.put_profile(person, {"region": "440106", "id_number": CARD, "event.残疾": "2026-03-01"}, now=NOW)
    place.people.record(person, "applied", ["A", "B"], now=NOW)
    place.sessions.save(session, 0, {"asking": "x", CARD: [CARD]}, VALUES, now=NOW, submission=submission(f"{person}-{CARD}"))
    place.people.attach(person, session, now=NOW)
    place.people.consent_session(session, "handling", "2026-1", now=NOW)


def test_a_profile_needs_consent_and_goes_with_it(place: Place) -> None:
    people = place.people
    with pytest.raises(ConsentError):
        people.put_profile("p", {"region": "4401"}, now=NOW)
    people.consent("p", "handling", "1", now=NOW)  # to another purpose
    with pytest.raises(ConsentError):
        people.put_profile("p", {"region": "4401"}, now=NOW)
    people.consent("p", "profile", "2", now=NOW)
    people.put_profile("p", {"region": "4401", "age": "70"}, now=NOW)
    people.put_profile("p", {"region": "", "employment": "退休"}, now=NOW)
    assert people.profile("p") == {"age": "70", "employment": "退休"} and people.profile("q") == {}
    people.withdraw("p", "profile", now=NOW + timedelta(1))
    assert people.profile("p") == {} and json.loads(people.export("p"))["profile"] == {}
    kept = people.consents("p")
    assert [(entry.purpose, entry.text_version, bool(entry.withdrawn)) for entry in kept] == [
        ("handling", "1", False),
        ("profile", "2", True),
    ]
    people.consent("p", "profile", "3", now=NOW + timedelta(2))
    assert people.profile("p") == {}  # a new consent brings nothing back
    for purpose, version in (("else", "1"), ("profile", CARD), ("profile", ""), ("profile", "第 1")):
        with pytest.raises(ValueError):
            people.consent("p", purpose, version, now=NOW)
    with pytest.raises(ValueError):
        people.profile("")


def test_all_of_a_person_is_handed_out_and_erased_and_nobody_elses(place: Place) -> None:
    full(place, "p", "s")
    full(place, "q", "t")
    before = place.people.export("q")
    out = json.loads(place.people.export("p"))
    assert out["profile"]["id_number"] == CARD and [entry["code"] for entry in out["events"]] == ["A", "B"]
    assert out["sessions"][0]["values"] == VALUES and out["submissions"][0]["values"] == VALUES
    assert {entry["purpose"] for entry in out["consents"]} == {"handling", "profile"} and len(
        out["sessions"][0]["consents"]
    ) == 1
    with pytest.raises(CatalogueError, match="another"):
        place.people.attach("q", "s", now=NOW)
    done = place.people.delete("p", now=NOW)
    assert done.kept == {} and done.erased == {
        "consents": 3, "session_values": 3, "submission_values": 3, "submissions": 1, "sessions": 1, "events": 2, "profile_values": 3, "people": 1,
    }  # fmt: skip
    empty = {"person": {}, "consents": [], "profile": {}, "events": [], "sessions": [], "submissions": []}
    assert json.loads(place.people.export("p")) == empty == json.loads(place.people.export("never seen"))
    assert place.people.export("q") == before and place.store.check() == []
    assert place.people.delete("p", now=NOW).erased == {}


def test_who_was_known_by_another_number_is_one_person(place: Place) -> None:
    people = place.people
    full(place, "visitor", "s")
    full(place, "other", "t")
    people.consent("me", "profile", "2", now=NOW)
    people.put_profile("me", {"region": "4401"}, now=NOW)
    untouched = people.export("other")
    moved = people.merge("me", "visitor", now=NOW)
    assert moved == {"consents": 2, "events": 2, "sessions": 1, "submissions": 1, "profile_values": 2}
    out = json.loads(people.export("me"))
    assert out["profile"] == {"region": "4401", "id_number": CARD, "event.残疾": "2026-03-01"}  # what was told here stays
    assert out["sessions"][0]["values"] == VALUES and out["submissions"][0]["values"] == VALUES
    assert [entry["code"] for entry in out["events"]] == ["A", "B"] and len(out["consents"]) == 3
    nothing = {"person": {}, "consents": [], "profile": {}, "events": [], "sessions": [], "submissions": []}
    assert json.loads(people.export("visitor")) == nothing and people.export("other") == untouched
    assert people.merge("me", "visitor", now=NOW) == {} == people.merge("me", "me", now=NOW)
    assert json.loads(people.export("me")) == out
    assert people.delete("me", now=NOW).erased["submissions"] == 1 and place.store.check() == []
    assert json.loads(people.export("me")) == nothing


def test_a_no_of_either_number_holds_for_both(place: Place) -> None:
    people = place.people
    people.consent("me", "profile", "1", now=NOW)
    people.withdraw("me", "profile", now=NOW + timedelta(2))
    for visitor, day in (("earlier", 1), ("later", 3)):
        people.consent(visitor, "profile", "1", now=NOW + timedelta(day))
        people.put_profile(visitor, {"age": "70"}, now=NOW + timedelta(day))
    people.opt_out("earlier", now=NOW)
    people.merge("me", "earlier", now=NOW + timedelta(4))
    assert people.profile("me") == {} and people.opted_out("me")
    assert json.loads(people.export("me"))["profile"] == {}, "kept without a consent"
    people.merge("me", "later", now=NOW + timedelta(4))
    assert people.profile("me") == {"age": "70"} and people.opted_out("me")


def test_what_the_law_keeps_is_kept_and_said(place: Place) -> None:
    full(place)
    policy = Policy(submissions_kept=100)
    done = place.people.delete("p", now=NOW + timedelta(99), policy=policy)
    assert done.kept["submissions"][0] == 1 and "100天" in done.kept["submissions"][1] and "submissions" not in done.erased
    assert len(json.loads(place.people.export("p"))["submissions"]) == 1
    done = place.people.delete("p", now=NOW + timedelta(100), policy=policy)
    assert done.kept == {} and done.erased == {"submissions": 1, "submission_values": 3}


def test_retention_erases_each_kind_when_it_is_due(place: Place) -> None:
    full(place)
    place.people.record("p", "dismissed", ["C"], now=NOW)
    place.people.opt_out("gone", now=NOW)
    place.people.withdraw("p", "handling", now=NOW)
    policy = Policy(sessions=10, events=20, submissions=30, people=40, consents=35)

    def after(days: int) -> dict[str, int]:
        return place.people.retention(NOW + timedelta(days), policy)

    assert after(10) == {}
    assert after(11) == {"sessions": 1, "session_values": 3, "consents": 1}
    assert after(21) == {"events": 2} and [entry.kind for entry in place.people.events("p")] == ["dismissed"]
    assert after(31) == {"submissions": 1, "submission_values": 3}
    assert after(36) == {"consents": 1}
    assert after(41) == {"people": 1, "profile_values": 3, "events": 1, "consents": 1}
    assert place.people.opted_out("gone") and place.store.check() == []
    assert after(10_000) == {}


def test_nothing_is_kept_of_who_has_opted_out(place: Place) -> None:
    assert place.people.record("p", "viewed", ["A"], now=NOW)
    place.people.opt_out("p", now=NOW)
    assert not place.people.record("p", "viewed", ["B"], now=NOW)
    assert place.people.record_some("p", "pushed", lambda events: ["B"], now=NOW) == ["B"]
    assert [entry.code for entry in place.people.events("p")] == ["A"] and place.people.log(("viewed",)) == []
    place.people.opt_out("p", now=NOW, out=False)
    assert place.people.record("p", "viewed", ["B"], now=NOW)
    assert [entry.code for _, entry in place.people.log(("viewed",))] == ["A", "B"]


# ---- nothing in the clear --------------------------------------------------------------------------------------------


def test_no_number_and_no_name_is_in_the_files(local: Place, tmp_path: Path) -> None:
    """The database and its log are searched byte by byte while they are open, and after; also for what is erased."""
    person, session = f"person-{CARD}", f"session-{secrets.token_hex(8)}"
    full(local, person, session)
    local.people.opt_out(f"other-{CARD}", now=NOW)
    secret = [CARD, "欧阳测试", "13800138000", person, session, "2026-03-01", "440106"]

    def search(*more: str) -> None:
        files = list(tmp_path.glob("local.db*"))
        assert len(files) == 3  # with its log and its index
        for file in files:
            data = file.read_bytes()
            for text in (*secret, *more):
                assert text.encode() not in data and text.encode("utf-16-le") not in data, (file, text)

    search()
    local.store.backup(tmp_path / "local.db-catalogue")
    kept = [row for (row,) in sqlite3.connect(tmp_path / "local.db").execute("SELECT value FROM session_values")]
    person_row = local.vault.pseudonym("person", person)
    (tmp_path / "local.db-catalogue").rename(tmp_path / "backup.db")
    copy = (tmp_path / "backup.db").read_bytes()
    assert person_row.encode() not in copy and kept[0].encode() not in copy
    local.people.delete(person, now=NOW)
    with sqlite3.connect(tmp_path / "local.db") as plain:
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert person_row.encode() not in (tmp_path / "local.db").read_bytes()  # erased from free pages, too
    assert kept[0].encode() not in (tmp_path / "local.db").read_bytes()


def test_a_value_moved_to_another_row_is_refused(local: Place, tmp_path: Path) -> None:
    full(local, "p", "s")
    local.sessions.save("t", 0, {}, {"id_number": "x"}, now=NOW)
    with local.store.database.write() as connection:
        mine, other = local.sessions.filed("s"), local.sessions.filed("t")
        connection.exec_driver_sql(
            "UPDATE session_values SET value = (SELECT value FROM session_values WHERE session = ? AND name = 'id_number') WHERE session = ?",
            (mine, other),
        )
    with pytest.raises(VaultError) as error:
        local.sessions.load("t")
    assert CARD not in str(error.value)


# ---- backups ---------------------------------------------------------------------------------------------------------


def test_a_backup_holds_people_only_when_asked(place: Place, tmp_path: Path) -> None:
    place.store.put([item("A")], [law("L")])
    full(place)
    place.store.backup(tmp_path / "plain.db")
    place.store.backup(tmp_path / "full.db", people=True)
    exported = place.people.export("p")
    with Store.open(tmp_path / "plain.db") as copy:
        assert copy.items() == place.store.items() and copy.check() == []
        other = Place(copy, tmp_path / "fresh.json")  # belongs to no key file
        assert json.loads(other.people.export("p"))["person"] == {}
        other.writer.close()
    with Store.recover(tmp_path / "again.db", tmp_path / "full.db") as copy:
        assert copy.check() == []
        with pytest.raises(VaultError):
            Vault.of(copy, tmp_path / "fresh.json")
        other = Place(copy, tmp_path / "keys.json")
        assert other.people.export("p") == exported and other.sessions.load("s").values == VALUES
        assert other.people.record("p", "viewed", ["Z"], now=NOW)
        other.writer.close()
    place.store.put_items([item("B")])
    place.store.restore(tmp_path / "plain.db")  # the catalogue alone
    assert [entry.code for entry in place.store.items()] == ["A"] and place.people.export("p") == exported


# ---- rotation --------------------------------------------------------------------------------------------------------


def test_the_command_shows_and_rotates_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Hall.create(tmp_path / "h") as hall:
        hall.people.consent("p", "profile", "2026-1", now=NOW)
        hall.people.put_profile("p", {f"name{i}": CARD for i in range(450)}, now=NOW)  # several batches
        old = hall.vault.ring.current

        def keys(*more: str) -> dict[str, Any]:
            assert cli.main(["hall", "keys", str(tmp_path / "h"), "--json", *more]) == 0
            return json.loads(capsys.readouterr().out)

        assert keys() == {
            "changed": 0,
            "retired": [],
            "keys": [{"key": old, "cipher": "AES-256-GCM", "current": True, "values": 450}],
        }
        found = keys("--rotate")
        new = hall.vault.ring.current  # the open hall goes on with it
        assert found["changed"] == 450 and new != old
        assert [(each["key"], each["current"], each["values"]) for each in found["keys"]] == [(old, False, 0), (new, True, 450)]
        assert hall.people.profile("p")["name7"] == CARD
        hall.people.put_profile("p", {"other": CARD}, now=NOW)
        retired = keys("--retire")
        assert retired["retired"] == [old] and [each["key"] for each in retired["keys"]] == [new]
        assert keys("--retire")["retired"] == [] and hall.people.profile("p")["other"] == CARD
    assert cli.main(["hall", "keys", str(tmp_path / "h"), "--rotate", "--progress"]) == 0
    told = capsys.readouterr()
    assert "451 values are written with the new key" in told.out and "/451" in told.err
    secrets_ = [key.secret for key in Vault.open(tmp_path / "h" / "keys.json").ring.keys.values()]
    assert not any(base64.b64encode(secret).decode() in told.out + told.err for secret in secrets_)


def test_a_key_that_is_in_use_is_not_retired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Hall.create(tmp_path / "h") as hall:
        hall.people.consent("p", "profile", "2026-1", now=NOW)
        for _ in range(3):
            hall.people.put_profile("p", {f"of {hall.vault.ring.current}": CARD}, now=NOW)
            hall.vault.add_key()
        before = (tmp_path / "h" / "keys.json").read_bytes()
        assert cli.main(["hall", "keys", str(tmp_path / "h"), "--retire"]) == 1
        assert "rotate first" in capsys.readouterr().err
        assert (tmp_path / "h" / "keys.json").read_bytes() == before, "not even those that are not"


def test_to_look_at_keys_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Hall.create(tmp_path / "h").close()
    assert cli.main(["hall", "keys", str(tmp_path / "h")]) == 0
    assert "no keys yet" in capsys.readouterr().out
    assert cli.main(["hall", "keys", str(tmp_path / "h"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"changed": 0, "retired": [], "keys": []}
    for word in ("--rotate", "--retire"):
        assert cli.main(["hall", "keys", str(tmp_path / "h"), word]) == 2
    assert not (tmp_path / "h" / "keys.json").exists()


def test_keys_are_rotated_while_others_read_and_write(place: Place, tmp_path: Path) -> None:
    for number in range(12):
        full(place, f"p{number}", f"s{number}")
    old, done, failures = place.vault.ring.current, threading.Event(), []
    elsewhere = Place(place.store, tmp_path / "keys.json")  # another process: its own keys in memory
    written = [0]

    def talk() -> None:
        try:
            version = elsewhere.sessions.load("s0").version
            while not done.is_set():
                version = elsewhere.sessions.save("s0", version, {"n": version}, {"n": str(version)}, now=NOW)
                assert elsewhere.sessions.load("s0").values == {"n": str(version - 1)}
                assert elsewhere.sessions.load("s5").values == VALUES
                written[0] = version
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=talk)
    thread.start()
    with pytest.raises(VaultError, match="current"):
        retire(place.store, place.vault, old) if not _any(place, old) else place.vault.drop_key(old)
    place.vault.add_key("SM4-GCM")
    with pytest.raises(VaultError, match="still written"):
        retire(place.store, place.vault, old)
    while written[0] < 3 and not failures:
        time.sleep(0.01)
    changed = rotate(place.store, place.vault, place.writer, batch=7)
    done.set()
    thread.join(60)
    assert not failures and changed >= 11 * (1 + 3 + 1 + 3 + 3)
    assert rotate(place.store, place.vault, place.writer) == 0
    retire(place.store, place.vault, old)
    assert list(Vault.open(tmp_path / "keys.json").ring.keys) == [place.vault.ring.current] != [old]
    for number in range(12):
        out = json.loads(elsewhere.people.export(f"p{number}"))
        assert out["profile"]["id_number"] == CARD and out["submissions"][0]["values"] == VALUES
        assert out["sessions"][0]["values"] == VALUES or number == 0
    elsewhere.writer.close()


def _any(place: Place, key: str) -> bool:
    with place.store.database.read() as connection:
        return bool(connection.exec_driver_sql(f"SELECT 1 FROM session_values WHERE value LIKE 'v1.{key}.%%' LIMIT 1").first())
