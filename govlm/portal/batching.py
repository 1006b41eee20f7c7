"""Packs the texts of requests that are in flight into one pass of a model: many small requests cost little more than one.

batcher = Batcher(latency=0.002, queue=256)
vectors = await batcher.run(lane, lane.prepare(texts))

A pass waits `latency` for company, at most. It holds so many tokens as take about `seconds`, so that who comes later, or gives up, does
not wait long. A request that is larger than a pass takes turns with the others. What a text gives does not depend on its company: the
core runs each sequence on its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from govlm._native import core
from govlm.portal.errors import PortalError

if TYPE_CHECKING:
    from govlm._core import Cancel

__all__ = ["Batcher", "Lane", "Ready"]

_LOG = logging.getLogger(__name__)
_LEAST = 64  # tokens of a pass, however slow the model
_WEIGHT = 0.2  # of the last pass in what a token costs


class Ready(NamedTuple):
    """A text made ready. tokens: that the model reads; data: what the lane made of it."""

    tokens: int
    data: Any


class Lane(Protocol):
    """A model with its tokenizer."""

    def prepare(self, texts: Sequence[str]) -> list[Ready]:
        """On any thread."""
        ...

    def work(self, ready: Sequence[Ready]) -> Sequence[Any]:
        """A result for each, in one pass; on the batcher's thread alone."""
        ...


class _Job:
    """A request. left: of its texts, by their places; made: their results so far."""

    def __init__(self, lane: Lane, ready: Sequence[Ready], loop: asyncio.AbstractEventLoop) -> None:
        self.lane, self.ready = lane, ready
        self.left = deque(range(len(ready)))
        self.made: dict[int, Any] = {}
        self.since = time.monotonic()
        self.cancelled = False
        self._loop, self.future = loop, loop.create_future()

    def finish(self, error: BaseException | None = None) -> None:
        def tell() -> None:
            if self.future.done():
                return
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result([self.made[place] for place in range(len(self.ready))])

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop is closed: nobody waits
            self.cancelled = True


class Batcher:
    """The one thread that runs models for other systems. queue: requests that wait, at most; tokens: of a pass, at most."""

    def __init__(self, latency: float, queue: int, tokens: int = 2048, seconds: float = 0.08) -> None:
        self._latency, self._queue, self._tokens, self._seconds = latency, queue, tokens, seconds
        self._jobs: deque[_Job] = deque()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._costs: dict[Lane, float] = {}  # seconds a token
        self._passing: tuple[list[_Job], Cancel] | None = None  # what a pass runs for, and how it is given up

    @property
    def waiting(self) -> int:
        """Requests that are not done."""
        return len(self._jobs)

    async def run(self, lane: Lane, ready: Sequence[Ready]) -> list[Any]:
        """The result of each text. PortalError "busy": the queue is full. When the caller is cancelled, what is left is dropped."""
        if not ready:
            return []
        job = _Job(lane, ready, asyncio.get_running_loop())
        with self._condition:
            if self._closed or len(self._jobs) >= self._queue:
                raise PortalError("busy", retry_after=1)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="govlm-batches", daemon=True)
                self._thread.start()
            self._jobs.append(job)
            self._condition.notify()
        try:
            made: list[Any] = await job.future
            return made
        except asyncio.CancelledError:
            with self._condition:
                job.cancelled = True
                if job in self._jobs:
                    self._jobs.remove(job)
                if self._passing is not None and all(other.cancelled for other in self._passing[0]):
                    self._passing[1].cancel()
            raise

    def close(self) -> None:
        """Finishes what waits; later requests are refused."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    # ---- on the batcher's thread

    def _serve(self) -> None:
        while chosen := self._next():
            by_job: dict[_Job, list[int]] = {}
            for job, place in chosen:
                by_job.setdefault(job, []).append(place)
            try:
                self._pass(chosen)
            except Exception as error:
                if len(by_job) == 1:
                    self._fail(next(iter(by_job)), error)
                    continue
                for job, places in by_job.items():  # one must not ruin the others
                    try:
                        self._pass([(job, place) for place in places])
                    except Exception as alone:
                        self._fail(job, alone)
            done = [job for job in by_job if len(job.made) == len(job.ready)]
            with self._condition:
                for job in done:
                    if job in self._jobs:
                        self._jobs.remove(job)
            for job in done:
                job.finish()

    def _next(self) -> list[tuple[_Job, int]]:
        """(request, place of the text) of the next pass; [] = closed, and nothing waits."""
        with self._condition:
            while True:
                if not self._jobs:
                    if self._closed:
                        return []
                    self._condition.wait()
                    continue
                lane = self._jobs[0].lane
                budget = self._budget(lane)
                left = self._jobs[0].since + self._latency - time.monotonic()
                if left > 0 and not self._closed and self._ready(lane, budget) < budget:
                    self._condition.wait(left)
                    continue
                return self._chosen(lane, budget)

    def _budget(self, lane: Lane) -> int:
        cost = self._costs.get(lane, 0.0)
        return self._tokens if cost * self._tokens <= self._seconds else max(_LEAST, int(self._seconds / cost))

    def _ready(self, lane: Lane, budget: int) -> int:
        """Tokens that wait for the lane, as far as they matter."""
        found = 0
        for job in self._jobs:
            if job.lane is lane:
                for place in job.left:
                    found += job.ready[place].tokens
                    if found >= budget:
                        return found
        return found

    def _chosen(self, lane: Lane, budget: int) -> list[tuple[_Job, int]]:
        """Texts of one model up to the budget, at least one; requests with texts left go to the end of the queue."""
        chosen: list[tuple[_Job, int]] = []
        tokens = 0
        rest: list[_Job] = []
        for job in [job for job in self._jobs if job.lane is lane]:
            took = False
            while job.left and (not chosen or tokens + job.ready[job.left[0]].tokens <= budget):
                place = job.left.popleft()
                tokens += job.ready[place].tokens
                chosen.append((job, place))
                took = True
            if took and job.left:
                rest.append(job)
            if tokens >= budget or job.left:
                break
        for job in rest:
            self._jobs.remove(job)
            self._jobs.append(job)
        return chosen

    def _pass(self, chosen: Sequence[tuple[_Job, int]]) -> None:
        stop = core.Cancel()
        with self._condition:
            alive = [(job, place) for job, place in chosen if not job.cancelled]
            if not alive:
                return
            self._passing = [job for job, _ in alive], stop
        lane = alive[0][0].lane
        ready = [job.ready[place] for job, place in alive]
        began = time.perf_counter()
        try:
            with stop:
                results = lane.work(ready)
        except core.Cancelled:  # nobody waits for it any more
            return
        finally:
            with self._condition:
                self._passing = None
        cost = (time.perf_counter() - began) / sum(entry.tokens for entry in ready)
        self._costs[lane] = cost if lane not in self._costs else (1 - _WEIGHT) * self._costs[lane] + _WEIGHT * cost
        for (job, place), result in zip(alive, results, strict=True):
            job.made[place] = result

    def _fail(self, job: _Job, error: Exception) -> None:
        _LOG.error("a pass failed: %s", type(error).__name__, exc_info=error)
        with self._condition:
            if job in self._jobs:
                self._jobs.remove(job)
        job.finish(error)
