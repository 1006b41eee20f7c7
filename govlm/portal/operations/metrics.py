"""Figures for Prometheus, over all workers. No label ever holds what a client sent: routes are templates.

govlm_requests_total{route,method,status}  govlm_request_seconds{route}  govlm_queue_waiting  govlm_turns_total
govlm_refusals_total{reason}  govlm_batch_size{kind}  govlm_resident_bytes
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "Metrics", "fresh_folder"]

FOLDER = "metrics"
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_FILE_SIZE = 1 << 20  # bytes of a worker's file, taken from the disk when it is made


def fresh_folder(data: Path) -> None:
    """Before workers begin: where they put their figures, without those of the last run."""
    folder = data / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    os.environ[_VARIABLE] = str(folder.resolve())


class Metrics:
    """Of a worker. Without `fresh_folder`, of this process alone."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, mmap_dict

        # Files that are mapped before the disk has given their pages would end the process on a full disk (SIGBUS).
        mmap_dict._INITIAL_MMAP_SIZE = _FILE_SIZE
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        live: dict[str, Any] = {**own, "multiprocess_mode": "livesum"}
        self.requests = Counter("govlm_requests", "Requests answered", ("route", "method", "status"), **own)
        self.seconds = Histogram(
            "govlm_request_seconds", "From request to the answer's end", ("route",), buckets=_SECONDS, **own
        )
        self.turns = Counter("govlm_turns", "Turns of conversations answered", **own)
        self.refusals = Counter("govlm_refusals", "Questions that were refused", ("reason",), **own)
        self.batches = Histogram("govlm_batch_size", "Texts in a forward pass", ("kind",), buckets=_SIZES, **own)
        self.waiting = Gauge("govlm_queue_waiting", "Requests that wait for a thread", **live)
        self.resident = Gauge("govlm_resident_bytes", "Memory of the workers", **live)
        self._folder = Path(os.environ[_VARIABLE]) if _VARIABLE in os.environ else None
        self.waiting.set(0)
        if self._folder is not None:
            for file in self._folder.glob(f"*_{os.getpid()}.db"):
                with file.open("rb+") as handle:
                    os.posix_fallocate(handle.fileno(), 0, _FILE_SIZE)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def turn(self, refusal: str = "") -> None:
        """A turn was answered. refusal: why it was refused, "" where it was not."""
        self.turns.inc()
        if refusal:
            self.refusals.labels(refusal).inc()

    def batch(self, kind: str, size: int) -> None:
        """A forward pass of so many texts."""
        self.batches.labels(kind).observe(size)

    def measure(self, waiting: int) -> None:
        """Takes the figures that are not counted as they happen."""
        self.waiting.set(waiting)
        with suppress(OSError, AttributeError), open("/proc/self/statm", encoding="ascii") as handle:
            self.resident.set(int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    def text(self) -> tuple[bytes, str]:
        """(what Prometheus reads, its media type), of all workers together."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess

        registry = self._registry
        if self._folder is not None:
            for file in self._folder.glob("gauge_live*_*.db"):  # a worker that was killed has no live figures any more
                found = re.search(r"_(\d+)\.db$", file.name)
                if found and not Path(f"/proc/{found[1]}").exists():
                    multiprocess.mark_process_dead(int(found[1]), str(self._folder))  # type: ignore[no-untyped-call]
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
