"""Something that a worker does again and again, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Periodic"]

_LOG = logging.getLogger(__name__)


class Periodic:
    """Calls work() every so many seconds, once more at the end where `last` says so. What it raises is logged, once in a row."""

    def __init__(self, name: str, seconds: float, work: Callable[[], None], *, last: bool = False) -> None:
        self._name, self._seconds, self._work, self._last = name, seconds, work, last
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"govlm-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits for what is under way."""
        self._stop.set()
        self._thread.join()
        if self._last:
            self._once()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._once()

    def _once(self) -> None:
        try:
            self._work()
            self._failing = False
        except Exception as error:
            if not self._failing:
                _LOG.error("%s failed and is tried again: %s", self._name, type(error).__name__, exc_info=error)
            self._failing = True
