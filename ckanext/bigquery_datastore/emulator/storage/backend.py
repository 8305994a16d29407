"""A small HTTP/1.1 client on asyncio streams, for bodies that only pass through.

The proxy moves gigabytes; general clients spend their time on every chunk.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

_CHUNK = 1 << 18
_IDLE = 32
Headers = list[tuple[bytes, bytes]]


@dataclass
class Reply:
    """An answer whose body is still to be read; read it to its end, or ``abandon`` it."""

    status: int
    headers: Headers
    body: AsyncIterator[bytes]
    _writer: asyncio.StreamWriter = field(repr=False)

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, if it is there."""
        return next((value for key, value in self.headers if key == name), None)

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.body])

    async def json(self) -> Any:
        """The whole body as JSON."""
        return json.loads(await self.read() or b"null")

    def abandon(self) -> None:
        """Break the connection off: nobody wants the rest."""
        self._writer.transport.abort()


class Backend:
    """fake-gcs-server behind the proxy, with connections that are kept."""

    def __init__(self, host: str, port: int, public: str) -> None:
        self._host, self._port = host, port
        self._public = public  # the server builds links, such as mediaLink, from the Host header
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(
        self,
        method: str,
        target: str,
        headers: Headers | None = None,
        body: bytes | AsyncIterator[bytes] = b"",
        length: int | None = None,
    ) -> Reply:
        """Send a request; ``length`` is that of a streamed body, None for an unknown one."""
        fresh = not self._idle
        reader, writer = await self._connection()
        lines = [f"{method} {target} HTTP/1.1", f"host: {self._public}"]
        for name, value in headers or []:
            lines.append(f"{name.decode('latin-1')}: {value.decode('latin-1')}")
        chunked = not isinstance(body, bytes) and length is None
        if chunked:
            lines.append("transfer-encoding: chunked")
        elif isinstance(body, bytes):
            length = len(body)
        if length is not None and (length or method in ("POST", "PUT", "PATCH")):
            lines.append(f"content-length: {length}")
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            await _write(writer, body, chunked)
            status, found = await _head(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
            if fresh or not isinstance(body, bytes):
                raise
            # A kept connection that the server had closed in the meantime.
            return await self.send(method, target, headers, body)
        except BaseException:
            writer.transport.abort()
            raise
        return Reply(status, found, self._body(method, status, found, reader, writer), writer)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not writer.is_closing() and not reader.at_eof():
                return reader, writer
        return await asyncio.open_connection(self._host, self._port, limit=1 << 20)

    async def _body(
        self,
        method: str,
        status: int,
        headers: Headers,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> AsyncIterator[bytes]:
        found = dict(headers)
        whole = False
        try:
            if method == "HEAD" or status in (204, 304):
                pass
            elif found.get(b"transfer-encoding") == b"chunked":
                while size := int((await reader.readline()).split(b";")[0], 16):
                    yield await reader.readexactly(size)
                    await reader.readexactly(2)
                await reader.readline()
            else:
                left = int(found.get(b"content-length", b"0"))
                while left:
                    chunk = await reader.read(min(_CHUNK, left))
                    if not chunk:
                        raise ConnectionResetError("The storage server broke off.")
                    left -= len(chunk)
                    yield chunk
            whole = True
        finally:
            if whole and len(self._idle) < _IDLE:
                self._idle.append((reader, writer))
            else:
                writer.transport.abort()

    def close(self) -> None:
        """Close the kept connections."""
        for _, writer in self._idle:
            writer.transport.abort()
        self._idle.clear()


async def _write(
    writer: asyncio.StreamWriter, body: bytes | AsyncIterator[bytes], chunked: bool
) -> None:
    if isinstance(body, bytes):
        writer.write(body)
        await writer.drain()
        return
    async for chunk in body:
        if not chunk:
            continue
        writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" if chunked else chunk)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _head(reader: asyncio.StreamReader) -> tuple[int, Headers]:
    while True:
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *rest = raw[:-4].split(b"\r\n")
        status = int(first.split(b" ")[1])
        if status >= 200:
            break
    headers = []
    for line in rest:
        name, _, value = line.partition(b":")
        headers.append((name.strip().lower(), value.strip()))
    return status, headers
