"""Running the portal: logs, figures, switches, faults, stopping, backups, retention, and its end."""

import json
import logging
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason='the portal needs pip install "govlm[portal]"')

import httpx
from databases import NUMBER
from portal_server import client, free_port, serving

from govlm import cli
from govlm.hall.catalogue.report import CatalogueError
from govlm.portal.operations import retention
from govlm.portal.operations.backup import KEYS, backup, restore
from govlm.portal.operations.logs import configure
from govlm.portal.operations.running import running
from govlm.portal.operations.switches import Switches
from govlm.portal.operations.usage import Usage
from govlm.portal.portal import prepare
from govlm.portal.settings import Settings
from govlm.portal.store.tables import tables

IDENTITY, PHONE, NAME = "11010519491231002X", "13912345678", "欧阳翠花"
SAID = f"我叫{NAME}，身份证{IDENTITY}，电话{PHONE}，想申请低保"
NOW = datetime(2026, 3, 5, 8, tzinfo=timezone.utc)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """URL for a portal's settings; None: SQLite in its folder."""
    return None if request.param == "sqlite" else new_database(request)


def new_database(request: pytest.FixtureRequest) -> str:
    import psycopg

    url = request.getfixturevalue("server")
    name = f"portal{next(NUMBER)}"
    with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url}/{name}"


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Logs of this process as the portal writes them; the lines so far."""
    root, file = logging.getLogger(), tmp_path / "logs" / "portal.log"
    before, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    configure(file)
    yield lambda: [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    root.handlers[:], logging.raiseExceptions = before, raising
    root.setLevel(level)
    logging.captureWarnings(False)


def begin(portal: Any) -> str:
    return str(portal.post("/v1/sessions").json()["id"])


def say(portal: Any, session: str, text: str) -> Any:
    return portal.post(f"/v1/sessions/{session}/turns", json={"text": text})


# ---- logs ---------------------------------------------------------------------------------------------------------------------


def test_a_request_is_a_line_without_its_path(tmp_path: Path, logged: Callable[[], list[dict[str, Any]]]) -> None:
    with client(tmp_path) as portal:
        session = begin(portal)
        answer = portal.get(f"/v1/sessions/{session}")
        portal.get(f"/v1/nothing/{PHONE}?name={NAME}")
        portal.get("/v1/sessions/forged.number")
    lines = [line for line in logged() if line["event"] == "request"]
    first, second, third, fourth = lines
    assert first["route"] == "/v1/sessions" and first["status"] == 201 and first["method"] == "POST"
    assert second["route"] == "/v1/sessions/{id}" and second["request_id"] == answer.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", second["who"]) and second["ms"] > 0 and second["complete"] is True
    assert third["route"] == "unmatched" and third["status"] == 404 and third["code"] == "not_found"
    assert fourth["code"] == "not_found"
    assert session not in json.dumps(lines)


def test_no_text_of_a_log_holds_a_number(logged: Callable[[], list[dict[str, Any]]]) -> None:
    import structlog

    logging.getLogger("somebody.else").warning("身份证%s", IDENTITY, extra={"phone": PHONE, "more": {"list": [IDENTITY]}})
    structlog.get_logger("govlm.x").error("phone", number=PHONE, thing=object())
    logging.getLogger("uvicorn.error").error("odd\nline")
    try:
        raise ValueError(f"{NAME} {IDENTITY}")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
        structlog.get_logger("govlm.x").exception("broken")
    logging.getLogger("govlm.y").error("known", exc_info=CatalogueError("the disk is full"))
    logging.getLogger("govlm.y").error("known", exc_info=OSError(28, "No space left on device", f"{NAME}.txt"))
    lines = logged()
    text = json.dumps(lines, ensure_ascii=False)
    assert IDENTITY not in text and PHONE not in text and NAME not in text
    assert lines[0]["logger"] == "somebody.else" and lines[0]["level"] == "warning" and "110105" in lines[0]["event"]
    broken = [line for line in lines if line.get("error") == "ValueError"]
    assert len(broken) == 2 and all("test_portal_operations.py" in line["where"][-1] for line in broken)
    assert [line["message"] for line in lines[-2:]] == ["the disk is full", "No space left on device"]


def test_an_unforeseen_error_is_logged_without_what_was_said(
    tmp_path: Path, logged: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(tmp_path) as portal:
        hall = portal.app.state.portal.hall

        def broken(session: str, text: str, **more: Any) -> None:
            raise RuntimeError(f"cannot read {text!r}")

        monkeypatch.setattr(hall, "chat", broken)
        answer = say(portal, begin(portal), SAID)
        assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal"
    text = json.dumps(logged(), ensure_ascii=False)
    assert "欧阳" not in text and IDENTITY not in text
    (line,) = [line for line in logged() if line["event"] == "request" and line["status"] == 500]
    assert line["request_id"] == answer.json()["error"]["request_id"]


# ---- nobody's data anywhere ---------------------------------------------------------------------------------------------------


def test_what_a_citizen_gives_is_nowhere_in_the_clear(tmp_path: Path) -> None:
    """A name, an identity number and a phone go in wherever something can go in; then every byte that the portal wrote is searched."""
    data, log = tmp_path / "portal", tmp_path / "portal.log"
    with (
        serving(tmp_path, environment={"GOVLM_PORTAL_LOG": str(log)}) as base,
        httpx.Client(base_url=base, trust_env=False, timeout=60) as web,
    ):
        session = begin(web)
        for text in (SAID, "我要申请低保", "同意", NAME, IDENTITY, PHONE, "就这些"):
            assert say(web, session, text).status_code == 200
        web.post(f"/v1/sessions/{session}/turns/stream", json={"text": SAID, "key": PHONE})
        web.patch(f"/v1/sessions/{session}/form", json={"values": {"name": NAME, "id_number": IDENTITY, "phone": PHONE}})
        web.post(f"/v1/sessions/{session}/turns/1/feedback", json={"rating": "down", "comment": SAID})
        web.post(f"/v1/sessions/{session}/handoff", json={"reason": SAID, "contact": PHONE})
        web.post("/v1/ask", json={"text": SAID})
        web.post("/v1/extract", json={"text": SAID})
        web.post("/v1/chat/completions", json={"model": "govlm-small-zh", "messages": [{"role": "user", "content": SAID}]})
        web.put("/v1/me/profile", json={"name": NAME, "phone": PHONE})
        web.get(f"/v1/forms/{IDENTITY}/{NAME}")
        web.get("/v1/search", params={"q": SAID})
        web.get(f"/v1/sessions/{session}/turns/1/stream", headers={"Last-Event-ID": PHONE, "User-Agent": IDENTITY})
        web.post("/v1/login", json={"name": NAME, "password": PHONE})
        web.post(f"/v1/sessions/{session}/turns", content=f'{{"text": "{SAID}'.encode())  # no JSON
        web.post(f"/v1/sessions/{session}/turns", json={"text": ["list", IDENTITY], NAME: PHONE})
        web.post("/v1/admin/imports", files={"file": (f"{NAME}{IDENTITY}.csv", SAID.encode(), "text/csv")})
        web.request("BREW", f"/v1/sessions/{PHONE}", headers={"X-Name": IDENTITY})
        web.get("/", headers={"Host": f"{PHONE}.example.cn"})
        figures = web.get("/metrics").text
        assert "govlm_turns_total" in figures
        time.sleep(2.5)  # usage is written every two seconds
        running_bytes = {path.name: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert any(name.endswith("-wal") for name in running_bytes)
    written = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    written |= {"figures": figures.encode(), **{f"running/{name}": content for name, content in running_bytes.items()}}
    for name, content in written.items():
        for secret in (IDENTITY, PHONE, NAME):
            for coded in (secret.encode(), secret.encode("utf-16-le"), json.dumps(secret)[1:-1].encode()):
                assert coded not in content, f"{secret} is in {name}"
    lines = log.read_text("utf-8").splitlines()
    assert len([line for line in lines if json.loads(line)["event"] == "request"]) >= 20
    with sqlite3.connect(data / "hall" / "catalogue.db") as plain:
        assert plain.execute("SELECT count(*) FROM turns").fetchone()[0] >= 8  # it was kept, and sealed
        assert plain.execute("SELECT sum(count) FROM portal_usage WHERE kind = 'latency'").fetchone()[0] >= 8


# ---- figures ------------------------------------------------------------------------------------------------------------------


def figure(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_figures_are_counted_by_route_and_status(tmp_path: Path) -> None:
    with client(tmp_path) as portal:
        say(portal, begin(portal), "低保怎么办")
        portal.get("/v1/sessions/forged")
        portal.app.state.portal.metrics.batch("embed", 8)
        portal.app.state.portal.metrics.turn("unanswerable")
        text = portal.get("/metrics").text
        assert portal.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 401
    assert figure(text, 'govlm_requests_total{method="POST",route="/v1/sessions/{id}/turns",status="200"}') == 1
    assert figure(text, 'govlm_requests_total{method="GET",route="/v1/sessions/{id}",status="404"}') == 1
    assert figure(text, 'govlm_request_seconds_count{route="/v1/sessions/{id}/turns"}') == 1
    assert figure(text, "govlm_turns_total") == 2
    assert figure(text, 'govlm_refusals_total{reason="unanswerable"}') == 1
    assert figure(text, 'govlm_batch_size_bucket{kind="embed",le="8.0"}') == 1
    assert figure(text, "govlm_resident_bytes") > 10e6


def test_figures_are_for_this_machine_and_for_keys(tmp_path: Path) -> None:
    from govlm.portal.security.access import Principal, current

    with client(tmp_path, host="0.0.0.0", hosts=("127.0.0.1", "0.0.0.0")) as portal:
        assert portal.get("/metrics").status_code == 401
        for scopes, roles, status in (
            ({"admin"}, {"administrator"}, 200), ({"chat"}, {"administrator"}, 403), ({"admin"}, {"citizen"}, 403),
            (None, {"administrator"}, 200),
        ):  # fmt: skip
            who = Principal("key:1", frozenset(roles), frozenset(scopes) if scopes else None)
            portal.app.dependency_overrides[current] = lambda who=who: who
            assert portal.get("/metrics").status_code == status, (scopes, roles)


def test_figures_of_all_workers_are_one(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as base, httpx.Client(base_url=base, trust_env=False, timeout=60) as web:
        for _ in range(12):
            with httpx.Client(base_url=base, trust_env=False, timeout=60) as fresh:  # a connection each: either worker takes it
                begin(fresh)
        texts = [httpx.get(f"{base}/metrics", trust_env=False, timeout=60).text for _ in range(6)]
        name = 'govlm_requests_total{method="POST",route="/v1/sessions",status="201"}'
        assert {figure(text, name) for text in texts} == {12.0}
        files = list((tmp_path / "portal" / "metrics").glob("counter_*.db"))
        assert len(files) == 2
        for file in files:  # the disk has given its pages: a full one cannot end the worker
            assert file.stat().st_blocks * 512 >= file.stat().st_size >= 1 << 20
        both = figure(texts[0], "govlm_resident_bytes")
        os.kill(int(files[0].stem.split("_")[1]), signal.SIGKILL)
        for _ in range(300):
            text = web.get("/metrics").text
            if len(list((tmp_path / "portal" / "metrics").glob("counter_*.db"))) == 3:
                break
            time.sleep(0.1)
        assert figure(text, name) == 12.0  # what it had counted is not lost
        assert figure(text, "govlm_resident_bytes") < both * 1.4  # and its memory is not counted any more


# ---- usage and switches -------------------------------------------------------------------------------------------------------


def test_usage_of_workers_adds_up(tmp_path: Path, database: str | None) -> None:
    with client(tmp_path, database=database, sample=database is None) as portal:
        hall = portal.app.state.portal.hall
        workers = [Usage(hall.store.database, hall.writer, lambda: NOW) for _ in range(2)]
        for worker in workers:
            for milliseconds in (10, 30):
                worker.count("latency", "/v1/ask", total=milliseconds)
            worker.count("business", f"低保{PHONE}")
            worker.flush()
        for worker in workers:
            worker.count("latency", "/v1/ask", total=20)
            worker.close()
        found = {(count.kind, count.name): (count.count, count.total) for count in workers[0].read(1, NOW.date())}
        assert found[("latency", "/v1/ask")] == (6, 120)
        (name,) = [name for kind, name in found if kind == "business"]
        assert PHONE not in name
        assert workers[0].read(30, NOW.date() + timedelta(days=30)) == []


def test_usage_that_cannot_be_written_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(tmp_path) as portal:
        hall = portal.app.state.portal.hall
        usage, submit = Usage(hall.store.database, hall.writer, lambda: NOW), hall.writer.submit
        usage.count("satisfaction", "up")
        monkeypatch.setattr(hall.writer, "submit", lambda work: (_ for _ in ()).throw(CatalogueError("the disk is full")))
        with pytest.raises(CatalogueError):
            usage.flush()
        monkeypatch.setattr(hall.writer, "submit", submit)
        usage.count("satisfaction", "up")
        usage.close()
        assert [(count.name, count.count) for count in usage.read(1, NOW.date())] == [("up", 2)]


def test_the_kill_switch_reaches_every_worker(tmp_path: Path, database: str | None) -> None:
    with client(tmp_path, database=database, sample=database is None) as portal:
        hall, session = portal.app.state.portal.hall, begin(portal)
        other = Switches(hall.store.database, hall.writer)
        assert other.on("chat")
        other.set("chat", False, "检查", "somebody", NOW)
        for _ in range(100):
            if not portal.app.state.portal.switches.on("chat"):
                break
            time.sleep(0.05)
        answer = say(portal, session, "低保怎么办")
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "switched_off"
        stream = portal.post(f"/v1/sessions/{session}/turns/stream", json={"text": "低保怎么办"})
        assert stream.status_code == 503 and "12345" in stream.json()["error"]["message"]
        assert portal.get(f"/v1/sessions/{session}").status_code == 200  # what was said can still be read
        (switch,) = other.all()
        assert (switch.on, switch.reason, switch.by) == (False, "检查", "somebody")
        portal.app.state.portal.switches.set("chat", True)
        assert say(portal, session, "低保怎么办").status_code == 200
        with pytest.raises(KeyError):
            other.set("coffee", True)
        other.close()


def test_switches_stay_as_they_were_while_the_database_is_gone(tmp_path: Path) -> None:
    with client(tmp_path) as portal:
        switches = portal.app.state.portal.switches
        switches.set("chat", False)
        file = tmp_path / "portal" / "hall" / "catalogue.db"
        file.rename(file.with_name("away"))
        time.sleep(1.2)
        assert not switches.on("chat")
        file.with_name("away").rename(file)


# ---- health and faults --------------------------------------------------------------------------------------------------------


def test_the_database_goes_and_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "portal" / "hall" / "catalogue.db"
    with client(tmp_path) as portal:
        session = begin(portal)
        assert say(portal, session, "低保怎么办").status_code == 200
        file.rename(file.with_name("away"))
        answer = say(portal, session, "要什么材料")
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "busy" and "Retry-After" in answer.headers
        ready = portal.get("/readyz")
        assert ready.status_code == 503 and "database" in ready.json()["error"]["fields"]
        assert portal.get("/healthz").status_code == 200
        assert not file.exists()  # nobody made an empty one in its place
        file.with_name("away").rename(file)
        assert portal.get("/readyz").status_code == 200
        assert say(portal, session, "要什么材料").status_code == 200
    with client(tmp_path) as portal:
        assert len(portal.app.state.portal.hall.history(session)) == 2


def test_postgresql_goes_and_comes_back(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    import psycopg

    url = new_database(request)
    base, _, name = url.rpartition("/")
    with client(tmp_path, database=url, sample=False) as portal, psycopg.connect(f"{base}/postgres", autocommit=True) as admin:
        session = begin(portal)
        assert say(portal, session, "低保怎么办").status_code == 200
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        assert say(portal, session, "要什么材料").status_code == 503
        assert portal.get("/readyz").status_code == 503 and portal.get("/healthz").status_code == 200
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert portal.get("/readyz").status_code == 200
        assert say(portal, session, "要什么材料").status_code == 200
        assert len(portal.app.state.portal.hall.history(session)) == 2


def test_a_full_disk_refuses_turns_and_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(tmp_path) as portal:
        hall, session = portal.app.state.portal.hall, begin(portal)
        assert say(portal, session, "低保怎么办").status_code == 200
        write = hall.store.database.write

        def full(**more: Any) -> Any:
            raise CatalogueError("the disk is full; nothing was written")

        monkeypatch.setattr(hall.store.database, "write", full)
        answer = say(portal, session, "要什么材料")
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "busy"
        assert portal.get(f"/v1/sessions/{session}").status_code == 200
        monkeypatch.setattr(hall.store.database, "write", write)
        assert say(portal, session, "要什么材料").status_code == 200
        assert [turn["number"] for turn in portal.get(f"/v1/sessions/{session}").json()["turns"]] == [1, 2]


def test_a_disk_without_room_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from govlm.portal.api import health

    with client(tmp_path) as portal:
        monkeypatch.setattr(health, "_ROOM", 1 << 62)
        answer = portal.get("/readyz")
        assert answer.status_code == 503 and answer.json()["error"]["fields"] == ["disk"]


# ---- stopping -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["turns", "turns/stream"])
def test_a_request_under_way_is_finished_before_the_end(tmp_path: Path, kind: str, workers: int) -> None:
    """SIGTERM comes while the request's body is still coming in."""
    port, log = free_port(), tmp_path / "serve.log"
    words = ["--data", str(tmp_path / "portal"), "--port", str(port), "--workers", str(workers)]
    environment = {**os.environ, "GOVLM_PORTAL_SAMPLE": "0"}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "govlm", "serve", *words], stdout=out, stderr=out, env=environment)
    try:
        base = f"http://127.0.0.1:{port}"
        for _ in range(1200):
            assert process.poll() is None, log.read_text("utf-8")
            try:
                if httpx.get(f"{base}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.1)
        session = httpx.post(f"{base}/v1/sessions", trust_env=False, timeout=60).json()["id"]
        body = json.dumps({"text": "低保怎么办理呀"}).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
            head = f"POST /v1/sessions/{session}/{kind} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            wire.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body[:5])
            time.sleep(1.0)  # it has begun
            process.send_signal(signal.SIGTERM)
            time.sleep(1.0)
            if workers == 1:
                with pytest.raises(OSError):  # nothing new is taken
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
            wire.sendall(body[5:])
            answer = b""
            while part := wire.recv(65536):
                answer += part
        text = answer.decode()
        assert text.startswith("HTTP/1.1 200") and "12345" in text
        if kind == "turns/stream":
            assert "event: end" in text and text.rstrip().endswith("0")  # the last chunk: not broken off
        assert process.wait(30) == 0, log.read_text("utf-8")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    lines = log.read_text("utf-8").splitlines()[
        2:
    ]  # beside the two of the start: no word of Python's about what was left behind
    assert [json.loads(line)["route"] for line in lines] == ["/v1/sessions", f"/v1/sessions/{{id}}/{kind}"]
    with client(tmp_path, sample=False) as portal:
        assert len(portal.app.state.portal.hall.history(session)) == 1


def test_one_portal_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "portal"
    prepare(Settings(data=data, sample=False))
    with running(data):
        assert cli.main(["serve", "--data", str(data), "--port", str(free_port())]) == 1
        assert "stop it first" in capsys.readouterr().err
        assert cli.main(["wipe", str(data), "--yes"]) == 1
        assert "stop it first" in capsys.readouterr().err
    assert (data / "hall" / "keys.json").exists()


# ---- backups ------------------------------------------------------------------------------------------------------------------


def content(database: Any) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a portal's database but what belongs to its place."""
    from govlm.hall.catalogue.database import tables as hall_tables

    found = {}
    with database.read() as connection:
        for table in (*hall_tables().values(), *tables().values()):
            rows = [tuple(row) for row in connection.execute(table.select()) if row[0] != "index"]
            found[table.name] = sorted(rows, key=repr)
    return found


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
def test_a_backup_brings_all_of_it_back(tmp_path: Path, database: str | None, to: str, request: pytest.FixtureRequest) -> None:
    data, keys = tmp_path / "portal", tmp_path / "keys"
    with client(tmp_path, database=database, sample=database is None) as portal:
        here = portal.app.state.portal
        session = begin(portal)
        for text in (SAID, "同意", "要什么材料"):
            say(portal, session, text)
        here.hall.people.consent("p1", "profile", "2026-1", now=NOW)
        here.hall.people.put_profile("p1", {"region": "4401"}, now=NOW)
        here.hall.people.record("p1", "viewed", ["A1"], now=NOW)
        here.switches.set("chat", False, "检查", "x", NOW)
        here.audit.record("backup.made", None).result(30)
        here.usage.count("satisfaction", "up")
        here.usage.flush()
        file = backup(data, tmp_path / "portal.tar.gz", now=NOW)  # while it runs
        before = content(here.database)
    with tarfile.open(file) as archive:
        names = archive.getnames()
        text = archive.extractfile("hall/hall.json")
        assert text is not None and b"secret" not in text.read()  # of the database's URL
    assert not set(KEYS) & set(names)
    assert database or "hall/procedures" in " ".join(names)
    assert file.stat().st_mode & 0o077 == 0
    keys.mkdir()
    for name in KEYS:
        (keys / Path(name).name).write_bytes((data / name).read_bytes())
    url = None if to == "sqlite" else new_database(request)
    assert restore(file, tmp_path / "other" / "portal", database=url, keys=keys)
    with client(tmp_path / "other", database=url, sample=False) as portal:
        here = portal.app.state.portal
        after = content(here.database)
        for name in before:
            if name not in ("portal_usage", "portal_audit", "portal_accounts"):
                assert after[name] == before[name], name
        assert set(before["portal_audit"]) <= set(after["portal_audit"])
        assert not here.switches.on("chat")
        here.switches.set("chat", True)
        assert [turn["message"] for turn in portal.get(f"/v1/sessions/{session}").json()["turns"]][-1] == "要什么材料"
        assert say(portal, session, "多少钱").status_code == 200
        assert here.hall.people.profile("p1") == {"region": "4401"}
        here.hall.people.consent("p2", "profile", "2026-1", now=NOW)  # numbers go on behind those that were brought
        here.hall.people.record("p1", "viewed", ["A2"], now=NOW)
    assert cli.main(["audit", "verify", str(tmp_path / "other" / "portal")]) == 0


def test_backup_and_restore_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "portal"
    with client(tmp_path) as portal:
        portal.app.state.portal.audit.record("x", None).result(30)
    assert cli.main(["portal", "backup", str(data), str(tmp_path / "a.tar.gz")]) == 0
    assert "without its keys" in capsys.readouterr().out
    assert cli.main(["portal", "restore", str(tmp_path / "a.tar.gz"), str(tmp_path / "new")]) == 0
    assert "put the copies of its keys" in capsys.readouterr().out
    with pytest.raises(CatalogueError, match="put back the copy"):
        prepare(Settings(data=tmp_path / "new"))  # new keys would make everybody's data unreadable without a word
    assert cli.main(["portal", "restore", str(tmp_path / "a.tar.gz"), str(tmp_path / "new")]) == 1
    assert "not empty" in capsys.readouterr().err
    assert cli.main(["portal", "backup", str(data), "--with-keys"]) == 0
    assert "WITH ITS KEYS" in capsys.readouterr().out
    (file,) = (data / "backups").iterdir()
    assert cli.main(["portal", "restore", str(file), str(tmp_path / "whole")]) == 0
    assert "keys" not in capsys.readouterr().out
    prepare(Settings(data=tmp_path / "whole"))
    assert cli.main(["portal", "backup", str(tmp_path), "x"]) == 1
    assert "no portal's data folder" in capsys.readouterr().err


def test_a_damaged_backup_makes_nothing(tmp_path: Path) -> None:
    with client(tmp_path):
        pass
    file = backup(tmp_path / "portal", tmp_path / "a.tar.gz")
    whole = file.read_bytes()
    for place in (20, len(whole) // 3, len(whole) // 2, len(whole) - 40, len(whole) - 6):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        file.write_bytes(bytes(damaged))
        with pytest.raises(CatalogueError, match=r"a\.tar\.gz"):
            restore(file, tmp_path / "new")
        assert not (tmp_path / "new").exists()
    for broken in (b"", b"no archive", whole[: len(whole) // 2]):
        file.write_bytes(broken)
        with pytest.raises(CatalogueError, match="no backup"):
            restore(file, tmp_path / "new")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_backup_with_a_path_outside_is_refused(tmp_path: Path) -> None:
    import hashlib
    import io

    evil = b"evil"
    manifest = json.dumps({"format": 1, "files": {"../evil": hashlib.sha256(evil).hexdigest()}}).encode()
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name, data in (("manifest.json", manifest), ("../evil", evil)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pytest.raises(CatalogueError, match="no backup"):
        restore(tmp_path / "a.tar.gz", tmp_path / "new" / "data")
    assert not list(tmp_path.rglob("evil"))


# ---- upgrades -----------------------------------------------------------------------------------------------------------------


def test_an_older_folder_is_upgraded_and_a_newer_one_refused(tmp_path: Path) -> None:
    from govlm.hall.hall import Hall

    data = tmp_path / "portal"
    Hall.create(data / "hall").close()  # of before the portal was
    with client(tmp_path, sample=False) as portal:
        assert say(portal, begin(portal), "低保怎么办").status_code == 200
    with sqlite3.connect(data / "hall" / "catalogue.db") as plain:
        plain.execute("UPDATE portal_version SET version_num = 'p9999'")
    with pytest.raises(CatalogueError, match=r"newer govlm .*p9999.*upgrade govlm"):
        prepare(Settings(data=data))


# ---- retention ----------------------------------------------------------------------------------------------------------------


def test_one_worker_a_day_erases_what_is_old(tmp_path: Path, database: str | None) -> None:
    with client(tmp_path, database=database, sample=database is None) as portal:
        here = portal.app.state.portal
        retention.claim(here.hall, datetime.now(timezone.utc) - timedelta(days=400))  # none is due by itself in this test
        times = [NOW + timedelta(days=days) for days in range(3)]
        claimed = [[retention.claim(here.hall, now) for _ in range(3)] for now in times]
        assert all(sum(day) <= 1 for day in claimed)
        old, new = "2025-01-01T00:00:00.000000Z", "2026-03-04T00:00:00.000000Z"
        rows = {
            "feedback": {"session": "s", "rating": "up", "comment_sealed": "", "turn": 1, "at": None},
            "questions": {
                "text_sealed": "",
                "kind": "bad",
                "reason_sealed": "",
                "status": "open",
                "first": old,
                "asked": 1,
                "last": None,
            },
            "logins": {"account": "a", "created": old, "seen": old, "expires": None},
        }

        def write(connection: Any) -> None:
            for name, values in rows.items():
                for number, at in (("old", old), ("new", new if name != "logins" else "2026-03-06T00:00:00.000000Z")):
                    row = {key: at if value is None else value for key, value in values.items()}
                    connection.execute(tables()[name].insert().values(id=number, **row))

        here.hall.writer.submit(write)
        erased = retention.erase(here.hall, here.anchors, retention.Policy(), NOW)
        assert {name: erased[f"portal_{name}"] for name in rows} == dict.fromkeys(rows, 1)
        with here.database.read() as connection:
            for name in rows:
                assert [row.id for row in connection.execute(tables()[name].select())] == ["new"]


def test_a_policy_that_the_law_forbids_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="180"):
        prepare(Settings.from_environment({"GOVLM_PORTAL_RETENTION": "audit=30"}, data=tmp_path / "portal"))
    assert not (tmp_path / "portal").exists()


# ---- the end ------------------------------------------------------------------------------------------------------------------


def test_a_wipe_leaves_nothing(tmp_path: Path, database: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "portal"
    with client(tmp_path, database=database, sample=database is None) as portal:
        say(portal, begin(portal), SAID)
        portal.app.state.portal.audit.record("x", None).result(30)
    elsewhere = backup(data, tmp_path / "elsewhere.tar.gz")
    backup(data)
    assert cli.main(["wipe", str(data), "--yes"]) == 0, capsys.readouterr()
    told = capsys.readouterr().out
    for word in ("hall/keys.json", "secret.key", "audit.key", "elsewhere.tar.gz", "backups", "index", "anchors.jsonl"):
        assert word in told, told
    assert not data.exists() and not elsewhere.exists()
    if database:
        import psycopg

        with psycopg.connect(database) as connection:
            assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_wipe_leaves_other_tables_and_files(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    import psycopg

    url, data = new_database(request), tmp_path / "portal"
    with client(tmp_path, database=url, sample=False):
        pass
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE theirs (x int)")
        (data / "notes.txt").write_text("mine")
        assert cli.main(["wipe", str(data), "--yes"]) == 1
        assert "notes.txt" in capsys.readouterr().out
        assert [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")] == [
            "theirs"
        ]
    assert [path.name for path in data.iterdir()] == ["notes.txt"]


def test_a_wipe_goes_on_when_the_database_answers_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    import psycopg

    url, data = new_database(request), tmp_path / "portal"
    base, _, name = url.rpartition("/")
    with client(tmp_path, database=url, sample=False):
        pass
    with psycopg.connect(f"{base}/postgres", autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        assert cli.main(["wipe", str(data), "--yes"]) == 1
        assert not (data / "hall" / "keys.json").exists()  # the keys go first, whatever happens then
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert cli.main(["wipe", str(data), "--yes"]) == 0
    assert not data.exists()


def test_a_wipe_asks_for_the_folders_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    data = tmp_path / "portal"
    prepare(Settings(data=data, sample=False))
    for typed in ("", "yes\n", "y\n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert cli.main(["wipe", str(data)]) == 2
        assert (data / "hall" / "keys.json").exists()
    assert "Type the folder's name (portal)" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("portal\n"))
    assert cli.main(["wipe", str(data)]) == 0
    assert not data.exists()
    assert cli.main(["wipe", str(tmp_path), "--yes"]) == 1  # no portal's
    assert tmp_path.exists()


def test_keys_are_rotated_under_the_portal_too(tmp_path: Path) -> None:
    from govlm.hall.protection.rotation import retire, rotate
    from govlm.portal.store.tables import tables as portal_tables

    with client(tmp_path) as http:
        portal = http.app.state.portal  # type: ignore[attr-defined]
        hall, vault = portal.hall, portal.hall.vault
        session = http.post("/v1/sessions").json()["id"]
        http.post(f"/v1/sessions/{session}/turns", json={"text": "今天股票能买吗"})
        assert http.post(f"/v1/sessions/{session}/turns/1/feedback", json={"rating": "down", "comment": "没答上来"}).is_success
        assert http.post(f"/v1/sessions/{session}/handoff", json={"reason": "想问人"}).is_success
        before = vault.ring.current
        vault.add_key()
        rotate(hall.store, vault, hall.writer)
        retire(hall.store, vault, before)  # refuses while anything is written with it
        assert vault.ring.current != before
        assert http.get(f"/v1/sessions/{session}/handoff").json()["status"] == "waiting"
        with hall.store.database.read() as connection:
            for table, columns in (
                ("feedback", ["comment_sealed"]),
                ("handoffs", ["reason_sealed"]),
                ("questions", ["text_sealed"]),
            ):
                for row in connection.execute(portal_tables()[table].select()):
                    for column in columns:
                        assert vault.decrypt(f"portal_{table}", row.id, column, getattr(row, column))
