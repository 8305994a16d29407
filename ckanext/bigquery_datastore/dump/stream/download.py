"""The event loop's side of a download: its pieces, one after the other.

They go to whom they are for, or into a pipe for a worker's thread, where at most ``BUFFER`` bytes
wait for a slow visitor. The connection to the next object is opened before the present one ends,
so the visitor does not wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
import httpx
from anyio.abc import TaskGroup

from ckanext.bigquery_datastore.dump.stream.fetch import Fetch
from ckanext.bigquery_datastore.dump.stream.parts import Inline, Piece
from ckanext.bigquery_datastore.dump.stream.reading import Patience, not_now
from ckanext.bigquery_datastore.errors import OutsideError

log = logging.getLogger(__name__)

CHUNK = 64 * 1024

# What waits in the pipe before it takes no more; as much again may be in the worker's hands.
BUFFER = CHUNK

# The next object's connection is opened when the present one has this much left.
OPEN_AHEAD = 1024 * 1024

Put = Callable[[bytes], Awaitable[None]]


class Pipe:
    """Chunks between the loop and one worker; holds ``BUFFER`` bytes and one chunk at most."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._arrived = anyio.Event()
        self._room = anyio.Event()
        self._ended = False
        self._error: OutsideError | None = None

    async def put(self, chunk: bytes) -> None:
        """Add ``chunk``, as soon as the worker has made room."""
        while self._size >= BUFFER:
            self._room = anyio.Event()
            await self._room.wait()
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._arrived.set()

    def finish(self, error: OutsideError | None) -> None:
        """Nothing follows: ``error`` says why, None that this was all."""
        self._ended = True
        self._error = error
        self._arrived.set()

    async def take(self) -> list[bytes]:
        """All chunks that are here, as soon as there is one; an empty list at the end.

        Raises the error of ``finish`` after the last chunk.
        """
        if not self._chunks and not self._ended:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        chunks, self._chunks, self._size = self._chunks, [], 0
        self._room.set()
        if not chunks and self._error is not None:
            raise self._error
        return chunks


class Download:
    """One visitor's download. To be made and run inside the event loop."""

    def __init__(
        self, client: httpx.AsyncClient, pieces: Sequence[Piece | Inline], patience: Patience
    ) -> None:
        self.pipe = Pipe()
        self._put: Put = self.pipe.put
        self._client = client
        self._pieces = pieces
        self._patience = patience
        self._fetches: dict[int, Fetch] = {}

    async def run(self) -> None:
        """Fill the pipe until the end, an error, or cancellation; close what was opened."""
        outcome: OutsideError | None = OutsideError("The download broke off.")
        try:
            await self.pass_on(self.pipe.put)
            outcome = None
        except OutsideError as err:
            outcome = err
        except Exception:
            log.exception("A download failed for a reason that is not foreseen")
            raise
        finally:
            self.pipe.finish(outcome)

    async def pass_on(self, put: Put) -> None:
        """Give all bytes to ``put``, each when the last was taken; close what was opened.

        :raises OutsideError: Cloud Storage refused or failed; before the first bytes, or later
        """
        self._put = put
        outcome: OutsideError | None = None
        try:
            async with anyio.create_task_group() as tasks:
                outcome = await self._send(tasks)
                tasks.cancel_scope.cancel()
        finally:
            for fetch in self._fetches.values():
                await fetch.aclose()
        if outcome is not None:
            raise outcome

    async def _send(self, tasks: TaskGroup) -> OutsideError | None:
        try:
            await self._reach_first_object()
            for index, piece in enumerate(self._pieces):
                if isinstance(piece, Inline):
                    await self._send_inline(piece)
                else:
                    await self._send_object(index, tasks)
        except OutsideError as err:
            return err
        return None

    async def _reach_first_object(self) -> None:
        """A refusal has to come before the first byte, even if that is an inline one."""
        for index, piece in enumerate(self._pieces):
            if isinstance(piece, Piece):
                with anyio.move_on_after(self._patience.first_byte) as limit:
                    await self._fetch(index, piece).open()
                if limit.cancelled_caught:
                    raise not_now()
                return

    async def _send_inline(self, piece: Inline) -> None:
        for start in range(0, len(piece.data), CHUNK):
            await self._put(piece.data[start : start + CHUNK])

    async def _send_object(self, index: int, tasks: TaskGroup) -> None:
        piece = self._pieces[index]
        assert isinstance(piece, Piece)
        fetch = self._fetch(index, piece)
        while chunk := await fetch.next():
            if fetch.remaining is None or fetch.remaining <= OPEN_AHEAD:
                self._open_ahead(index + 1, tasks)
            await self._put(chunk)
        del self._fetches[index]

    def _open_ahead(self, index: int, tasks: TaskGroup) -> None:
        if index < len(self._pieces) and index not in self._fetches:
            piece = self._pieces[index]
            if isinstance(piece, Piece):
                tasks.start_soon(_open, self._fetch(index, piece))

    def _fetch(self, index: int, piece: Piece) -> Fetch:
        if index not in self._fetches:
            self._fetches[index] = Fetch(self._client, piece, self._patience)
        return self._fetches[index]


async def _open(fetch: Fetch) -> None:
    # A refusal is remembered by the fetch, and raised when its turn comes.
    with suppress(OutsideError):
        await fetch.open()
