"""A portal as it is run: behind its own TLS, by several workers of which one dies, for clients that are slow; told its secrets by files."""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from portal_server import client, serving

from govlm.portal.application import Application
from govlm.portal.settings import Settings, SettingsError

STARTS = """
import sys
from pathlib import Path
from govlm.portal.application import create_app
from govlm.portal.portal import Portal, prepare
from govlm.portal.settings import Settings

settings = Settings(data=Path(sys.argv[1]))
prepare(settings)
before = set(sys.modules)
app = create_app(settings)
app.state.portal = Portal(settings)
assert app.state.portal.hall.chat("talk", "我想申请低保").kept
app.state.portal.close()
print(*sys.modules)
"""
FREELY = {"GOVLM_PORTAL_RATES": "chat=,address=,catalogue=,login="}


def certificate(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) of 127.0.0.1, signed by itself, as PEM files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hall")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


def test_its_own_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    trusted = ssl.create_default_context(cafile=str(cert))
    with serving(tmp_path, tls_cert=cert, tls_key=key, workers=2) as base:
        assert base.startswith("https://")
        with httpx.Client(base_url=base, verify=trusted, trust_env=False, timeout=60) as page:
            first = page.get("/")
            assert "Secure" in first.headers["set-cookie"] and "max-age" in first.headers["strict-transport-security"]
            me = page.get("/v1/me").json()
            assert me["kind"] == "visitor"
            head = {"X-CSRF-Token": me["csrf"], "Origin": base}
            session = page.post("/v1/sessions", headers=head).json()["id"]
            said = page.post(f"/v1/sessions/{session}/turns", headers=head, json={"text": "身份证掉了咋补"})
            assert said.status_code == 200 and said.json()["citations"]
        with pytest.raises(httpx.HTTPError):
            httpx.get(base.replace("https", "http"), trust_env=False, timeout=60)


def wire(base: str) -> socket.socket:
    where = urlsplit(base)
    return socket.create_connection((where.hostname or "", where.port or 0), timeout=60)


def test_slow_clients_hold_nobody_up(tmp_path: Path) -> None:
    """More of them than there are threads: some never end their head, some their body, some do not read what they asked for."""
    body = '{"text": "低保要什么材料"}'.encode()
    with serving(tmp_path, environment=FREELY) as base, ExitStack() as stack:
        session = httpx.post(f"{base}/v1/sessions", trust_env=False).json()["id"]
        head = f"POST /v1/sessions/{session}/turns/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        slow = [stack.enter_context(wire(base)) for _ in range(45)]
        for number, one in enumerate(slow):
            one.sendall([head.encode(), f"{head}\r\n".encode() + body[:7], f"{head}\r\n".encode() + body][number % 3])
        for _ in range(5):
            answer = httpx.post(f"{base}/v1/ask", json={"text": "低保多久能办下来"}, trust_env=False, timeout=60)
            assert answer.status_code == 200 and answer.json()["citations"]
        last = slow[1]  # it goes on, letter by letter, and is answered
        for place in range(7, len(body)):
            last.sendall(body[place : place + 1])
        got = b""
        while part := last.recv(65536):
            got += part
        assert got.startswith(b"HTTP/1.1 200") and b"event: end" in got


def told(base: str, session: str, keys: list[str], taken: list[str]) -> Iterator[None]:
    """Says something under each key, again where the line broke; notes the keys that were answered."""
    for key in keys:
        for _ in range(100):
            try:
                said = httpx.post(
                    f"{base}/v1/sessions/{session}/turns",
                    json={"text": "低保有啥条件", "key": key},
                    trust_env=False,
                    timeout=60,
                )
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            assert said.status_code == 200, said.text
            taken.append(key)
            break
        yield


def test_a_killed_worker_takes_no_turn_along(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2, environment=FREELY) as base:
        sessions = [httpx.post(f"{base}/v1/sessions", trust_env=False).json()["id"] for _ in range(4)]
        taken: dict[str, list[str]] = {session: [] for session in sessions}
        halfway, go = threading.Semaphore(0), threading.Event()
        wrong: list[BaseException] = []

        def talk(session: str) -> None:
            try:
                for number, _ in enumerate(told(base, session, [f"k{n}" for n in range(12)], taken[session])):
                    if number == 3:
                        halfway.release()
                    if number == 8:
                        go.wait(60)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=talk, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert halfway.acquire(timeout=120)
        workers = {int(file.stem.split("_")[1]) for file in (tmp_path / "portal" / "metrics").glob("counter_*.db")}
        assert len(workers) == 2
        os.kill(min(workers), signal.SIGKILL)
        assert httpx.get(f"{base}/v1/items", trust_env=False, timeout=60).status_code == 200, "the other answers"
        go.set()
        for thread in threads:
            thread.join(120)
        assert not wrong, wrong
        for session, keys in taken.items():
            kept = httpx.get(f"{base}/v1/sessions/{session}", trust_env=False, timeout=60).json()["turns"]
            assert len(keys) == 12 == len(kept), "lost, or taken twice"


def test_secrets_come_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql+psycopg://hall:s3cret@db/hall\n", "utf-8")
    found = Settings.from_environment({"GOVLM_PORTAL_DATABASE_FILE": str(secret), "GOVLM_PORTAL_OIDC_SECRET_FILE": str(secret)})
    assert found.database == "postgresql+psycopg://hall:s3cret@db/hall" == found.oidc_secret and "s3cret" not in repr(found)
    with pytest.raises(SettingsError, match="GOVLM_PORTAL_DATABASE_FILE"):
        Settings.from_environment({"GOVLM_PORTAL_DATABASE_FILE": str(tmp_path / "missing")})


def test_a_start_reads_what_a_first_question_needs(tmp_path: Path) -> None:
    """Once the hall is made: neither the library that made the index, nor what reads files, nor the routes of the console."""
    for _ in range(2):
        told = subprocess.run(
            [sys.executable, "-c", STARTS, str(tmp_path / "portal")], capture_output=True, text=True, timeout=300
        )
        assert told.returncode == 0, told.stderr
    modules = set(told.stdout.split())
    assert "govlm.portal.api.chat" in modules
    for name in (
        "bm25s",
        "scipy",
        "opencc",
        "alembic",
        "authlib",
        "govlm.hall.catalogue.columns",
        "govlm.portal.api.admin_catalogue",
    ):
        assert name not in modules, name


def test_routes_that_come_later_answer_the_first_request_for_them(tmp_path: Path) -> None:
    with client(tmp_path) as portal:
        app = portal.app
        assert isinstance(app, Application)
        assert portal.post("/v1/sessions").status_code == 201 and not app.whole
        assert portal.get("/v1/items").status_code == 200 and app.whole
        paths = app.openapi()["paths"]
        assert {"/v1/sessions", "/v1/items", "/v1/admin/switches", "/metrics"} <= set(paths)
        assert portal.get("/v1/nothing").status_code == 404
        count = len(app.routes)
        app.complete()
        assert len(app.routes) == count
