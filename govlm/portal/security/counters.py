"""Counters of the rate limits, which all workers of a portal share: a table in a file that each of them maps, under a lock of that file.

`limits` counts in memory, for each worker alone, or on a server of its own (Redis, …). A key's hits within a sliding window are reckoned as
it reckons them: those of the window at hand, and of the one before as far as it overlaps. The table has a fixed size: where it is crowded, the counter that begun longest ago
makes room. It holds keyed digests and numbers, nobody's name or address.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor
from pathlib import Path

__all__ = ["FILE", "Counters", "fresh_file"]

FILE = "limits"
_SLOT = struct.Struct("<QQII")  # digest of the key; second at which its window began; hits in it; hits in the window before
_SLOTS, _PROBES = 1 << 15, 16  # counters; places in which one may stand
_SIZE = _SLOTS * _SLOT.size


def fresh_file(data: Path) -> None:
    """Before workers begin: the table, empty."""
    with open(data / FILE, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as handle:
        os.posix_fallocate(handle.fileno(), 0, _SIZE)  # a page that the disk has not given ends a process on a full one


class Counters:
    """data: the folder with the table of `fresh_file`; None: of this process alone. seed: of the digests."""

    def __init__(self, data: Path | None, seed: bytes) -> None:
        self._seed, self._lock = seed[:64], threading.Lock()
        self._handle = None if data is None else open(data / FILE, "r+b")  # noqa: SIM115  (as long as the portal)
        self._table = mmap.mmap(-1 if self._handle is None else self._handle.fileno(), _SIZE)

    def close(self) -> None:
        self._table.close()
        if self._handle is not None:
            self._handle.close()

    def take(self, key: str, most: int, seconds: int) -> float:
        """Counts a hit of a key, where no more than `most` fall into `seconds` then, and gives 0; else the seconds until one is taken."""
        now = time.time()
        with self._locked():
            place, number, start, hits, before = self._find(key, seconds, now)
            passed = now - start
            if floor(before * (1 - passed / seconds) + hits) < most:
                _SLOT.pack_into(self._table, place, number, start, hits + 1, before)
                return 0.0
        if hits < most:
            return max(0.001, seconds * (1 - (most - hits) / before) - passed)
        return seconds - passed + seconds * (1 - most / hits if hits else 1)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            if self._handle is None:
                yield
                return
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _find(self, key: str, seconds: int, now: float) -> tuple[int, int, int, int, int]:
        """(where a key stands or may be put, its digest, when this window began, hits in it, hits in the one before)."""
        number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, key=self._seed).digest(), "little") or 1
        start = int(now) // seconds * seconds
        free, oldest = 0, 1 << 64
        for probe in range(_PROBES):
            place = (number + probe) % _SLOTS * _SLOT.size
            found, begun, hits, before = _SLOT.unpack_from(self._table, place)
            if found == number:
                if begun == start:
                    return place, number, start, hits, before
                return place, number, start, 0, hits if begun == start - seconds else 0
            if begun < oldest:
                free, oldest = place, begun
        return free, number, start, 0, 0
