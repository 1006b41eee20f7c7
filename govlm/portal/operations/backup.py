"""A portal in one file, of one moment; and back, into a new folder, on SQLite or PostgreSQL as one likes.

A tar archive, compressed: manifest.json (format, versions, SHA-256 of every member), portal.db (all tables of the hall, its people and the
portal, as an SQLite file), the anchors of the audit, procedures and files that wait to be published. The keys are left out: with them the
file would be everybody's data in the clear; they are few and change seldom, so keep a copy of them elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, Any

from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.catalogue.store import Beside, Store, copy_rows
from govlm.hall.protection.sessions import utc
from govlm.portal.audit import anchors
from govlm.portal.store.tables import drop, tables, upgrade

__all__ = ["BACKUPS", "FOLDER", "KEYS", "SECRET", "backup", "head", "is_backup", "restore"]

SECRET = "secret.key"
KEYS = ("hall/keys.json", SECRET, anchors.KEY)  # below the data folder
FOLDER, BACKUPS = "backups", "backups.jsonl"  # where backups go that have no other place; where all of them are noted
_FILES = (anchors.FILE,)
_FOLDERS = ("hall/procedures", "imports", "regression")
_MANIFEST, _DATABASE, _HALL = "manifest.json", "portal.db", "hall/hall.json"
_PART = 1 << 20


def head(data: Path) -> dict[str, Any]:
    """hall.json of a data folder. CatalogueError: it is no portal's."""
    try:
        found: dict[str, Any] = json.loads((data / _HALL).read_text("utf-8"))
    except (OSError, ValueError):
        raise CatalogueError(f"{data}: no portal's data folder ({_HALL} is missing or damaged)") from None
    return found


def backup(data: Path, file: Path | None = None, *, keys: bool = False, now: datetime | None = None) -> Path:
    """Writes a backup while the portal runs; a file of that name is replaced when the new one is whole. file: default is one of the day's
    in data/backups. keys: also the key files. Returns the file. CatalogueError, OSError: it could not be written."""
    time = (now or datetime.now(timezone.utc)).astimezone(timezone.utc)
    hall = head(data)
    if file is None:
        file = data / FOLDER / f"govlm-{time:%Y%m%dT%H%M%SZ}.tar.gz"
        file.parent.mkdir(mode=0o700, exist_ok=True)
    if keys and (missing := [name for name in KEYS if not (data / name).exists()]):
        raise CatalogueError(f"{data}: {', '.join(missing)} is not there; are the keys kept elsewhere (GOVLM_KEYS)?")
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as place:
        folder = Path(place)
        members: dict[str, Path] = {}
        for name in _FILES:  # before the database: what is anchored then is in it
            if (data / name).exists():
                shutil.copyfile(data / name, folder / name)
                members[name] = folder / name
        with Store.open(hall.get("database") or data / "hall" / "catalogue.db") as store:
            store.backup(folder / _DATABASE, people=True, beside=Beside(upgrade, tuple(tables().values())))
        members[_DATABASE] = folder / _DATABASE
        (folder / "hall.json").write_text(json.dumps({**hall, "database": None}) + "\n", "utf-8")  # the URL holds a password
        members[_HALL] = folder / "hall.json"
        for name in _FOLDERS:
            members |= {str(path.relative_to(data)): path for path in sorted((data / name).rglob("*")) if path.is_file()}
        if keys:
            members |= {name: data / name for name in KEYS}
        manifest = {
            "format": 1, "govlm": version("govlm"), "at": utc(time), "keys": keys,
            "files": {name: _digest(path) for name, path in members.items()},
        }  # fmt: skip
        temporary = folder / "archive"
        with open(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as handle:
            with tarfile.open(fileobj=handle, mode="w:gz", compresslevel=6) as archive:
                text = json.dumps(manifest, ensure_ascii=False, indent=1).encode()
                _add(archive, _MANIFEST, io.BytesIO(text), len(text))
                for name, path in members.items():
                    with path.open("rb") as opened:
                        _add(archive, name, opened, path.stat().st_size)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    with (data / BACKUPS).open("a", encoding="utf-8") as notes:  # so that `wipe` finds it
        notes.write(json.dumps({"at": utc(time), "file": str(file.resolve()), "keys": keys}, ensure_ascii=False) + "\n")
    return file


def restore(file: Path, data: Path, *, database: str | None = None, keys: Path | None = None) -> bool:
    """Makes a data folder from a backup. data: new or empty. database: URL of an empty PostgreSQL database (default: SQLite in the folder).
    keys: a folder that holds copies of the key files, where the backup has none. Returns whether the keys are in place.

    CatalogueError: the file is no backup, is damaged, or was made by a newer govlm; or the folder is not empty. Nothing was made then.
    """
    if data.exists() and any(data.iterdir()):
        raise CatalogueError(f"{data}: not empty; move it away first, or name a new folder")
    data.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{data.name}.", dir=data.parent))
    try:
        _extract(file, place)
        target = Store.create(database or place / "hall" / "catalogue.db")
        try:
            upgrade(target.database)
            with Store.open(place / _DATABASE) as source:
                upgrade(source.database)  # of an older govlm: brought to this one's tables first
                copy_rows(source.database, target.database, people=True, more=tuple(tables().values()))
        except BaseException:
            drop(target.database)
            raise
        finally:
            target.close()
        for suffix in ("", "-wal", "-shm"):
            (place / f"{_DATABASE}{suffix}").unlink(missing_ok=True)
        if database:
            values = json.loads((place / _HALL).read_text("utf-8"))
            (place / _HALL).write_text(json.dumps({**values, "database": database}) + "\n", "utf-8")
        for name in KEYS if keys else ():
            given = next((path for path in (keys / name, keys / PurePosixPath(name).name) if path.exists()), None)  # type: ignore[operator]
            if given is not None:
                with open(os.open(place / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as handle:
                    handle.write(given.read_bytes())
        if data.exists():
            data.rmdir()
        os.rename(place, data)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return all((data / name).exists() for name in KEYS)


def is_backup(file: Path) -> bool:
    """Whether a file is a backup of a portal, as far as its beginning says."""
    try:
        with tarfile.open(file, "r:gz") as archive:
            member = archive.next()
            return member is not None and member.name == _MANIFEST
    except (OSError, tarfile.TarError, EOFError):
        return False


def _extract(file: Path, place: Path) -> None:
    """The members that the manifest names, checked."""
    damaged = CatalogueError(f"{file}: no backup of a portal, or damaged")
    try:
        with tarfile.open(file, "r:gz") as archive:
            first = archive.next()
            opened = archive.extractfile(first) if first is not None and first.name == _MANIFEST else None
            if opened is None:
                raise damaged
            manifest: dict[str, Any] = json.loads(opened.read())
            if manifest.get("format") != 1:
                raise CatalogueError(f"{file}: made by a newer govlm ({manifest.get('govlm', '?')}): upgrade govlm")
            left = dict(manifest["files"])
            for member in archive:
                if member.name == _MANIFEST:
                    continue
                path = PurePosixPath(member.name)
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or member.name not in left or path.is_absolute() or ".." in path.parts:
                    raise damaged
                target = place / path
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with open(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as handle:
                    shutil.copyfileobj(content, handle, _PART)
                if _digest(target) != left.pop(member.name):
                    raise damaged
            for _ in _parts(archive.fileobj):  # type: ignore[arg-type]  # to its end: the checksum of the whole stands there
                pass
            if left or not (place / _DATABASE).exists() or not (place / _HALL).exists():
                raise damaged
    except OSError as error:
        if error.errno is not None:
            raise
        raise damaged from None
    except (tarfile.TarError, zlib.error, EOFError, ValueError, KeyError, TypeError, AttributeError):
        raise damaged from None


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    archive.addfile(member, content)


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as handle:
        for part in _parts(handle):
            found.update(part)
    return found.hexdigest()


def _parts(handle: IO[bytes]) -> Iterator[bytes]:
    while part := handle.read(_PART):
        yield part
