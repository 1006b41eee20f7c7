"""Heads of the audit's chains, signed, in a file outside the database: what is cut from the database is missed there.

{"at", "chain", "number", "digest", "event", "previous", "mac"} a line; event: "opened" (number 0), "head", "closed", "erased" (by
retention). mac is HMAC-SM3 over the rest with the key in `audit.key`; previous is the mac of the line before, so that no line is taken out
between two. Workers append under a lock, and each line is on the disk before the next begins. Copy the file to another machine now and
then: who can write both the database and this file can cut both.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.protection.sessions import utc
from govlm.portal.audit import sm3

__all__ = ["FILE", "KEY", "Anchor", "Anchors"]

FILE, KEY = "anchors.jsonl", "audit.key"
_FIELDS = ("at", "chain", "number", "digest", "event", "previous")
_TAIL = 4096  # bytes of the file's end that hold its last line


@dataclass(frozen=True)
class Anchor:
    """The chain had this digest at this number (0: nothing yet)."""

    at: str
    chain: str
    number: int
    digest: str
    event: str
    previous: str = ""
    mac: str = ""


class Anchors:
    """Those of a data folder. Any number of processes may append."""

    def __init__(self, data: Path, *, make: bool = True) -> None:
        """make: makes the key where there is neither key nor file. CatalogueError: a file without its key."""
        self.file, key = data / FILE, data / KEY
        if make and not key.exists() and not self.file.exists():
            _make(key)
        try:
            self._key = bytes.fromhex(key.read_text("ascii").strip())
        except (OSError, ValueError):
            raise CatalogueError(f"{key}: the key of the audit is missing or damaged; put back the copy of it") from None

    @property
    def mark(self) -> str:
        """4 digits of the key's digest, part of the names of its chains: several machines may share a database, each with its own key."""
        return sm3.digest(b"mark" + self._key).hex()[:4]

    def append(self, event: str, chain: str, number: int, digest: str, now: datetime) -> None:
        """Returns once the line is on the disk. OSError: it could not be written; the file is as it was."""
        handle = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            size = os.fstat(handle).st_size
            tail = os.pread(handle, _TAIL, max(0, size - _TAIL))
            last = next((found for line in reversed(tail.split(b"\n")) if (found := _parsed(line))), None)
            anchor = Anchor(utc(now), chain, number, digest, event, last.mac if last else "")
            line = json.dumps({**_values(anchor), "mac": self._mac(anchor)}, separators=(",", ":")).encode() + b"\n"
            if tail and not tail.endswith(b"\n"):  # a line that a power cut tore
                line = b"\n" + line
            try:
                if os.write(handle, line) != len(line):
                    raise OSError(28, "No space left on device", str(self.file))
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)

    def read(self) -> tuple[list[Anchor], list[str], list[int]]:
        """(anchors, what is wrong with the file, lines that are torn, as by a power cut); anchors whose signature is wrong are left out."""
        found: list[Anchor] = []
        wrong: list[str] = []
        torn: list[int] = []
        before = ""
        lines = self.file.read_bytes().split(b"\n") if self.file.exists() else []
        for place, line in enumerate(lines, 1):
            if not line:
                continue
            anchor = _parsed(line)
            if anchor is None:
                torn.append(place)
            elif not hmac.compare_digest(anchor.mac, self._mac(anchor)):
                wrong.append(
                    f"{FILE} line {place} (chain {anchor.chain}, {anchor.number}): changed, or signed with another key"
                )
                before = anchor.mac
            else:
                if anchor.previous != before:
                    wrong.append(f"{FILE}: lines before line {place} were deleted, moved or changed")
                found.append(anchor)
                before = anchor.mac
        return found, wrong, torn

    def _mac(self, anchor: Anchor) -> str:
        values = [str(value) for value in _values(anchor).values()]
        return sm3.mac(self._key, json.dumps(values, separators=(",", ":")).encode()).hex()


def _values(anchor: Anchor) -> Mapping[str, str | int]:
    return {name: getattr(anchor, name) for name in _FIELDS}


def _parsed(line: bytes) -> Anchor | None:
    try:
        values = json.loads(line)
        anchor = Anchor(**{name: values[name] for name in (*_FIELDS, "mac")})
    except (ValueError, TypeError, KeyError):
        return None
    texts = (anchor.at, anchor.chain, anchor.digest, anchor.event, anchor.previous, anchor.mac)
    return anchor if type(anchor.number) is int and all(isinstance(text, str) and text.isascii() for text in texts) else None


def _make(file: Path) -> None:
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w", encoding="ascii") as opened:
        opened.write(secrets.token_hex(32))
