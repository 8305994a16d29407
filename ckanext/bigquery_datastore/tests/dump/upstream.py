"""A storage server on loopback that misbehaves on demand.

It speaks just enough HTTP/1.1 to hand out objects with Range, in one thread whatever the
number of connections, and remembers what was asked of it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """How one request for an object is answered. The default is: as it should be."""

    status: int | None = None
    generation: int | None = 1
    drop_after: int | None = None
    """Close the connection after so many bytes of the body."""
    stall_after: int | None = None
    """Send nothing more after so many bytes of the body."""
    hold_after: int | None = None
    """Wait, after so many bytes of the body, for ``Upstream.release``."""
    silent: bool = False
    """Send nothing at all."""
    ignores_range: bool = False
    shifted: int = 0
    """Answer a Range with one that begins so many bytes later."""
    framing: str = "length"
    """length, chunked, or none (the body ends with the connection)."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    """The body of an answer whose status is neither 200 nor 206."""


@dataclass
class StoredObject:
    data: bytes
    script: list[Answer]
    asked: int = 0


@dataclass(frozen=True)
class Request:
    target: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass
class Upstream:
    """``with Upstream() as upstream: url = upstream.put("name", b"data")``."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    open_connections: int = 0
    connections: int = 0

    def __post_init__(self) -> None:
        self._objects: dict[str, StoredObject] = {}
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Upstream:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def put(self, name: str, data: bytes, *script: Answer) -> str:
        """Store an object; its n-th request gets the n-th answer, then always the last."""
        self._objects[f"/bucket/{name}"] = StoredObject(data, list(script) or [Answer()])
        return f"http://127.0.0.1:{self.port}/bucket/{name}?X-Goog-Signature=5ec4e7"

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._released.set)

    def wait_until(self, condition: Callable[[Upstream], bool], seconds: float = 10) -> None:
        """Return once ``condition`` holds; fails the test after ``seconds``."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), seconds), (
                f"{self.open_connections} connections are open, asked for: {self.requests[-5:]}"
            )

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accepted, "127.0.0.1", 0, backlog=500)

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._note(connections=1, open_connections=1)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            writer.close()
            self._note(open_connections=-1)
            self._tasks.discard(task)

    def _note(self, connections: int = 0, open_connections: int = 0) -> None:
        with self._changed:
            self.connections += connections
            self.open_connections += open_connections
            self._changed.notify_all()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        target = head[0].split(" ")[1]
        headers = {
            name.lower(): value
            for name, value in (line.split(": ", 1) for line in head[1:] if line)
        }
        request = Request(target, headers)
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        # To a proxy, the whole address is sent (RFC 9112 section 3.2.2).
        path = re.sub(r"^http://[^/]+", "", target).partition("?")[0]
        stored = self._objects.get(path)
        if stored is None:
            stored = StoredObject(b"", [Answer(status=404)])
        answer = stored.script[min(stored.asked, len(stored.script) - 1)]
        stored.asked += 1
        if answer.silent:
            await reader.read()
            return False
        return await self._send(request, stored.data, answer, reader, writer)

    async def _send(
        self,
        request: Request,
        data: bytes,
        answer: Answer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        status, extra, body = 200, [], data
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.range or "")
        if match and not answer.ignores_range:
            first = int(match[1]) + answer.shifted
            last = min(int(match[2] or len(data)), len(data) - 1)
            status, body = 206, data[first : last + 1]
            extra.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
        if answer.status is not None:
            status, body = answer.status, answer.body
        if answer.generation is not None:
            extra.append(("x-goog-generation", str(answer.generation)))
        if answer.framing == "length":
            extra.append(("Content-Length", str(len(body))))
        elif answer.framing == "chunked":
            extra.append(("Transfer-Encoding", "chunked"))
        lines = [
            f"HTTP/1.1 {status} Whatever",
            *(f"{k}: {v}" for k, v in [*extra, *answer.headers]),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        stops = [
            s for s in (answer.drop_after, answer.stall_after, answer.hold_after) if s is not None
        ]
        await self._write(writer, body[: stops[0]] if stops else body, answer)
        if answer.drop_after is not None:
            return False
        if answer.stall_after is not None:
            await reader.read()
            return False
        if answer.hold_after is not None:
            await self._released.wait()
            await self._write(writer, body[answer.hold_after :], answer)
        if answer.framing == "chunked":
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return answer.framing != "none"

    async def _write(self, writer: asyncio.StreamWriter, body: bytes, answer: Answer) -> None:
        for start in range(0, len(body), 65536):
            block = body[start : start + 65536]
            if answer.framing == "chunked":
                block = b"%x\r\n%s\r\n" % (len(block), block)
            writer.write(block)
            await writer.drain()
