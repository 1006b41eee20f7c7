"""Lets so many requests work at once, so many more wait, and refuses the rest at once: a portal that is overrun stays a portal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request

from govlm._native import core
from govlm.portal.errors import PortalError

__all__ = ["Gate", "attended"]

T = TypeVar("T")


class Gate:
    """Threads for what computes or waits for the disk. waiting: requests that have no thread yet, at most `queue`."""

    def __init__(self, threads: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="govlm-portal")
        self._places, self._queue = asyncio.Semaphore(threads), queue
        self.waiting = 0

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """work(*arguments) on a thread. PortalError "busy": the queue is full. One whose client went away while it waited never begins;
        one that has begun stops where it is in the model (govlm._core.Cancelled, which nobody hears), and runs to its end elsewhere."""
        if self._places.locked() and self.waiting >= self._queue:
            raise PortalError("busy", retry_after=1)
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        stop = core.Cancel()

        def within() -> T:
            with stop:
                return work(*arguments)

        future = asyncio.get_running_loop().run_in_executor(self._pool, within)
        future.add_done_callback(self._done)  # also when nobody waits for it any more
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.cancel()
            raise

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._places.release()
        if not future.cancelled():
            future.exception()  # heard, where nobody waits for it

    def close(self) -> None:
        self._pool.shutdown(wait=True)


async def attended(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of work; it is cancelled when the client goes away, so that what it waits for is never begun. PortalError "gone": it
    went."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise PortalError("gone")
        return task.result()
    finally:
        for one in (task, watch):
            if not one.done():
                one.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await one


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
