"""A portal for tests: in this process (`client`), or as citizens' machines see it, a server of its own (`serving`)."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason='the portal needs pip install "govlm[portal]"')

from fastapi.testclient import TestClient

from govlm.hall.hall import Hall
from govlm.portal.application import create_app
from govlm.portal.portal import prepare
from govlm.portal.settings import Settings

FREELY = dict.fromkeys(("login", "chat", "catalogue", "models", "push", "admin", "key", "address"), "")  # rates: no limits
READY = 120.0  # seconds until a server must answer, on a machine that does other work too


@contextlib.contextmanager
def client(tmp_path: Path, *, address: str = "127.0.0.1", **settings: Any) -> Iterator[TestClient]:
    """A client of a portal in this process, whose data is in tmp_path/portal. address: where its requests come from.

    settings: of `govlm.portal.settings.Settings`. Called again with the same folder it finds what was kept.
    """
    given = Settings(data=tmp_path / "portal", **settings)
    if given.sample and given.database is None:
        _furnish(given.data)
    prepare(given)
    host = f"[{given.host}]" if ":" in given.host else given.host
    base = given.public or f"{'https' if given.secure else 'http'}://{host}:{given.port}"
    with TestClient(create_app(given), base_url=base, client=(address, 50_000), raise_server_exceptions=False) as found:
        yield found


@functools.cache
def _sample() -> Path:
    """A sample hall, made once for all tests of this process: it takes longer than they do."""
    folder = Path(tempfile.mkdtemp(prefix="govlm-hall-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    prepare(Settings(data=folder / "portal"))
    with Hall.open(folder / "portal" / "hall") as hall, hall.store.database.write() as connection:
        for table in ("portal_accounts", "portal_logins", "portal_keys"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    return folder / "portal" / "hall"


def _furnish(data: Path) -> None:
    """Puts a copy of the sample hall where a portal would make one."""
    if not (data / "hall").exists():
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copytree(_sample(), data / "hall")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(tmp_path: Path, **options: Any) -> Iterator[str]:
    """A `govlm serve` on a free port, with data in tmp_path/portal; gives its address, like http://127.0.0.1:40123, once it is ready.

    The sample hall is copied there, not made anew. options: of the command line, like workers=2; `environment`: more variables for it. What it prints is in
    tmp_path/serve.log. It is told to stop at the end (SIGTERM), and killed where it does not within 30 seconds.
    """
    environment = {**os.environ, **options.pop("environment", {})}
    port = options.setdefault("port", free_port())
    options.setdefault("data", tmp_path / "portal")
    if "database" not in options:
        _furnish(Path(options["data"]))
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    base = f"{'https' if 'tls_cert' in options else 'http'}://127.0.0.1:{port}"
    log = tmp_path / "serve.log"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "govlm", "serve", *words], stdout=out, stderr=subprocess.STDOUT, env=environment
        )
    try:
        _wait(process, base, log)
        yield base
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], base: str, log: Path) -> None:
    end = time.monotonic() + READY
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"govlm serve ended with {process.returncode}:\n{log.read_text('utf-8')}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{base}/readyz", timeout=5, verify=False, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    pytest.fail(f"govlm serve was not ready within {READY:.0f} seconds:\n{log.read_text('utf-8')}")


@contextlib.contextmanager
def threaded(settings: Settings, wait: float = 60.0) -> Iterator[Any]:
    """The application of a portal that a thread of this process serves on settings.port."""
    import threading

    import uvicorn

    prepare(settings)
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=settings.port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, wait)
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join()


def until(holds: Any, wait: float = 60.0) -> None:
    """Waits for what comes by itself."""
    end = time.monotonic() + wait
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
