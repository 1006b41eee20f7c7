"""A load generator over plain sockets: cheap enough to share two cores with the server that it measures.

client = Client("127.0.0.1", 8000)
status, body = await client.call("POST", "/v1/sessions/…/turns", {"text": "…"})
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

__all__ = ["Client", "percentile", "share"]


class Client:
    """One keep-alive connection; one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def _send(self, method: str, path: str, body: Any) -> asyncio.StreamReader:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        if data:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        elif method == "POST":
            head += "Content-Length: 0\r\n"
        writer.write(head.encode() + b"\r\n" + data)
        await writer.drain()
        return reader

    async def _head(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        return int(lines[0].split()[1]), fields

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, JSON). ConnectionError, IncompleteReadError: the server went away."""
        try:
            reader = await self._send(method, path, body)
            status, fields = await self._head(reader)
            data = await reader.readexactly(int(fields.get("content-length", "0")))
        except BaseException:
            self.close()
            raise
        return status, json.loads(data) if data else None

    async def events(self, path: str, body: Any) -> AsyncIterator[tuple[str, float]]:
        """(event, seconds since the request) of a stream."""
        began = time.perf_counter()
        reader = await self._send("POST", path, body)
        status, _ = await self._head(reader)
        if status != 200:
            self.close()
            raise ConnectionError(f"status {status}")
        last = ""
        while last != "end":
            line = (await reader.readline()).decode()
            if not line:
                self.close()
                raise ConnectionError("the stream broke off")
            if line.startswith("event: "):
                last = line[7:].strip()
                yield last, time.perf_counter() - began
        self.close()  # what is left of the chunked body is of no interest

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def share(users: int, seconds: float, work: Callable[[int], Awaitable[None]]) -> float:
    """`users` tasks that call work(user) again and again for so many seconds; returns how long it took."""
    began = time.perf_counter()

    async def one(user: int) -> None:
        while time.perf_counter() - began < seconds:
            await work(user)

    await asyncio.gather(*(one(user) for user in range(users)))
    return time.perf_counter() - began


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
