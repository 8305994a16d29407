"""One object's bytes on the event loop: ``reading`` says what to ask for, and what is accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx

from ckanext.bigquery_datastore.dump.stream.parts import Piece
from ckanext.bigquery_datastore.dump.stream.reading import (
    REFUSAL_BYTES,
    Passing,
    Patience,
    Reading,
)
from ckanext.bigquery_datastore.errors import OutsideError


class Fetch:
    """The bytes of one piece, in order: ``open()`` ahead of time, ``next()`` until empty.

    Both raise OutsideError or a subclass. ``aclose()`` ends it at any time.
    """

    def __init__(self, client: httpx.AsyncClient, piece: Piece, patience: Patience) -> None:
        self._client = client
        self._url = piece.source.url
        self._patience = patience
        self._reading = Reading(piece, patience)
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._turn = anyio.Lock()
        self._ahead: bytes | None = None
        self._refusal: OutsideError | None = None

    @property
    def remaining(self) -> int | None:
        """Bytes still to come, None while that is not known."""
        return self._reading.remaining

    async def open(self) -> None:
        """Have the first bytes at hand. What it raises, ``next()`` raises again."""
        async with self._turn:
            if self._ahead is None and self._refusal is None:
                try:
                    self._ahead = await self._next()
                except OutsideError as err:
                    self._refusal = err
            if self._refusal is not None:
                raise self._refusal

    async def next(self) -> bytes:
        """The next bytes, at most 64 KiB of them; empty at the end of the piece."""
        async with self._turn:
            if self._refusal is not None:
                raise self._refusal
            if self._ahead is not None:
                ahead, self._ahead = self._ahead, None
                return ahead
            return await self._next()

    async def _next(self) -> bytes:
        while True:
            try:
                if self._response is None:
                    await self._connect()
                return await self._read()
            except (Passing, httpx.TransportError) as err:
                await self.aclose()
                await anyio.sleep(self._reading.pause(err))

    async def aclose(self) -> None:
        """Close the connection, unless it was read to its end."""
        response, self._response, self._chunks = self._response, None, None
        if response is not None:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _read(self) -> bytes:
        assert self._chunks is not None
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            self._reading.end()
            await self.aclose()
            return b""
        self._reading.take(chunk)
        return chunk

    async def _connect(self) -> None:
        request = self._client.build_request(
            "GET", self._url, headers=self._reading.request(), timeout=self._timeout()
        )
        response = await self._send(request)
        try:
            if not self._reading.is_answer(response.status_code):
                raise self._reading.refuse(response.status_code, await _beginning(response))
            self._reading.accept(response.headers)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            raise
        self._response = response
        self._chunks = response.aiter_raw()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """The answer's head. A connection that is being made is waited for, even if cancelled.

        httpcore loses a connection that is cancelled in between, and it stays open
        (https://github.com/encode/httpcore/issues/1093). From the request on it does not.
        """
        with anyio.CancelScope(shield=True) as connecting:

            async def trace(event: str, _: object) -> None:
                if event.endswith("send_request_headers.started"):
                    connecting.shield = False

            request.extensions["trace"] = trace
            return await self._client.send(request, stream=True)
        raise AssertionError("nobody cancels this scope itself")

    def _timeout(self) -> httpx.Timeout:
        connect, read = self._patience.connect, self._patience.read
        return httpx.Timeout(connect=connect, read=read, write=connect, pool=connect)


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > REFUSAL_BYTES:
            break
    return body
