"""One portal a data folder: a second one, a restore or a wipe beside it is refused."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from govlm.hall.catalogue.report import CatalogueError

__all__ = ["FILE", "running"]

FILE = "running.lock"


@contextlib.contextmanager
def running(data: Path) -> Iterator[None]:
    """Holds the folder, which is made where there is none. CatalogueError: another process does; its end, however it comes, frees it."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(data / FILE, "a", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CatalogueError(f"{data}: a portal runs on this folder; stop it first") from None
        yield
