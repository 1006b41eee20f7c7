"""Databases for the tests: the fixtures `server` (a PostgreSQL of our own) and `target` (SQLite, and that). `conftest` gives them to all.
`item` and `law` are records to put in."""

import glob
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from govlm.hall.catalogue.documents import make_document
from govlm.hall.catalogue.records import Document, Item

NUMBER = iter(range(10**6))  # names of databases


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, without a database's name. It refuses root, so it runs as its own user then."""
    pytest.importorskip("psycopg", reason='PostgreSQL needs pip install "govlm[postgresql]"')
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres")) or [
        found for found in [shutil.which("postgres")] if found
    ]
    if not binaries:
        pytest.skip("no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
    folder = Path(binaries[-1]).parent
    as_user: list[str] = []
    import pwd
    import tempfile

    top = Path(tempfile.mkdtemp(prefix="govlm-pg-"))  # not pytest's folder: the server's user could not enter it
    try:
        if os.geteuid() == 0:
            try:
                user = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("PostgreSQL refuses root, and there is no user postgres")
            os.chown(top, user.pw_uid, user.pw_gid)
            as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(top)}
        made = subprocess.run(
            [*as_user, str(folder / "initdb"), "-D", str(top / "data"), "-U", "govlm", "-A", "trust", "-E", "UTF8", "--no-sync"],
            cwd=top, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout + made.stderr
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["-c", "listen_addresses=127.0.0.1", "-p", str(port), "-k", str(top), "-F"]
        with open(top / "log", "wb") as log:
            process = subprocess.Popen(
                [*as_user, str(folder / "postgres"), "-D", str(top / "data"), *options],
                cwd=top, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            import psycopg

            for _ in range(600):
                assert process.poll() is None, (top / "log").read_text(encoding="utf-8", errors="replace")
                try:
                    psycopg.connect(f"host=127.0.0.1 port={port} user=govlm dbname=postgres").close()
                    break
                except psycopg.OperationalError:
                    threading.Event().wait(0.1)
            yield f"postgresql://govlm:secret@127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new catalogue can be made."""
    if request.param == "sqlite":
        return str(tmp_path / "catalogue.db")
    import psycopg

    url = request.getfixturevalue("server")
    name = f"hall{next(NUMBER)}"
    with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url}/{name}"


def item(code: str, **values: object) -> Item:
    return Item(**{"code": code, "name": f"事项{code}", **values})


def law(code: str, text: str = "第一条 甲。\n第二条 乙：\n（一）丙；\n（二）丁。") -> Document:
    return make_document(text, code=code, title=code)
