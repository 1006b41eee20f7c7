"""The end of a portal: nothing that it kept can be read any more.

The keys go first, overwritten: what is encrypted with them is lost from then on, wherever copies of it are. Then the database, the index, the
backups that were noted, everything else of the portal in its folder. Files that are not the portal's are left, and named.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from govlm.hall.catalogue.database import Database
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.protection.vault import ENVIRONMENT
from govlm.portal.audit import anchors
from govlm.portal.operations import metrics, running
from govlm.portal.operations.backup import BACKUPS, FOLDER, KEYS, head, is_backup
from govlm.portal.security import counters
from govlm.portal.store.tables import drop

__all__ = ["Wiped", "wipe"]

_OURS = ("imports", "regression", "logs", metrics.FOLDER, counters.FILE, anchors.FILE)


@dataclass
class Wiped:
    """gone: what was erased. left: what could not be, or is not the portal's, and why."""

    gone: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def wipe(data: Path) -> Wiped:
    """Erases a portal that does not run. Called again it goes on where it was stopped. CatalogueError: it runs, or the folder is no
    portal's."""
    hall = head(data)
    done = Wiped()
    with running.running(data):
        named = [data / name for name in KEYS]
        for key in [*named, *(half for file in named for half in sorted(file.parent.glob(f".{file.name}.*")))]:
            if key.exists():
                _shred(key)
                done.gone.append(f"key {key.relative_to(data)}")
        if os.environ.get(ENVIRONMENT):
            done.left.append(f"the keys that ${ENVIRONMENT} names: erase them where they are kept")
        kept = _database(data, hall.get("database"), done)
        _backups(data, done)
        if not kept:  # hall.json says where the database is, for the next attempt
            shutil.rmtree(data / "hall", ignore_errors=True)
            done.gone.append("the hall's folder with its index and procedures")
            for name in _OURS:
                _remove(data / name, done)
            (data / running.FILE).unlink()
    others = sorted(path.name for path in data.iterdir())
    if not others:
        data.rmdir()
        done.gone.append(f"the folder {data}")
    elif not kept:
        done.left.append(f"{data}: holds what is not the portal's: {', '.join(others[:8])}")
    return done


def _database(data: Path, url: str | None, done: Wiped) -> bool:
    """Whether something of it is left."""
    if url:
        try:
            database = Database(url)
            try:
                names = drop(database)
            finally:
                database.close()
        except CatalogueError as error:
            done.left.append(f"the tables in PostgreSQL ({error}); run wipe again when it answers")
            return True
        done.gone.append(f"{len(names)} tables of {database.name}")
        return False
    for file in sorted((data / "hall").glob("catalogue.db*")):
        _shred(file)
        done.gone.append(f"database {file.relative_to(data)}")
    return False


def _backups(data: Path, done: Wiped) -> None:
    """Those in the folder, and those that were noted when they were made."""
    noted = []
    if (data / BACKUPS).exists():
        for line in (data / BACKUPS).read_text("utf-8").splitlines():
            try:
                noted.append(Path(json.loads(line)["file"]))
            except (ValueError, KeyError, TypeError):
                done.left.append(f"{BACKUPS}: a damaged line; look for the backup that it named")
    inside = sorted((data / FOLDER).glob("*.tar.gz")) if (data / FOLDER).exists() else []
    for file in dict.fromkeys([*inside, *noted]):
        if not file.exists():
            if file not in inside and file.parent != (data / FOLDER).resolve():
                done.left.append(f"backup {file}: not there any more; was it moved?")
        elif is_backup(file):
            file.unlink()
            done.gone.append(f"backup {file}")
        else:
            done.left.append(f"{file}: noted as a backup, but it is none")
    if (data / FOLDER).exists() and not any((data / FOLDER).iterdir()):
        (data / FOLDER).rmdir()
    (data / BACKUPS).unlink(missing_ok=True)


def _shred(file: Path) -> None:
    """Overwrites a file and removes it. On disks that write elsewhere (SSD, copy on write) the old bytes may live on: encrypt the disk too."""
    with file.open("rb+") as handle:
        left = os.fstat(handle.fileno()).st_size
        while left > 0:
            left -= handle.write(secrets.token_bytes(min(left, 1 << 20)))
        handle.flush()
        os.fsync(handle.fileno())
    file.unlink()


def _remove(path: Path, done: Wiped) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    else:
        return
    done.gone.append(path.name)
