"""An ASGI application out of CKAN's WSGI one: what CKAN leaves to be done is done here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import anyio
import anyio.from_thread
from a2wsgi import WSGIMiddleware

from ckanext.bigquery_datastore import config, servers
from ckanext.bigquery_datastore.asgi.turns import AGAIN, BACK, NEW, Comer, Turns
from ckanext.bigquery_datastore.asgi.waits import Message, Waits
from ckanext.bigquery_datastore.dump import watch
from ckanext.bigquery_datastore.dump.loop import in_rewriter, loop_of_server, shared_loop
from ckanext.bigquery_datastore.dump.state import Running
from ckanext.bigquery_datastore.dump.stream.download import Download, Pipe
from ckanext.bigquery_datastore.dump.stream.parts import cut, total_size
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError, OutsideError
from ckanext.bigquery_datastore.handover import HEADER, KEY, Handover, Streamed, Wait
from ckanext.bigquery_datastore.web.answers import HOP

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HEADER = HEADER.lower().encode()


class Front:
    """An ASGI application out of CKAN's WSGI one."""

    def __init__(self, ckan: Any) -> None:
        self.ckan: Any = WSGIMiddleware(ckan, workers=config.asgi_threads())
        # A crowd that comes at once, or whose file is ready, leaves most threads to CKAN's pages.
        self.turns = Turns(max(1, config.asgi_threads() // 4))
        self.waits = Waits()
        self._loop: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._ended = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._start()
            await _Request(self, scope, receive, send).answer()
        else:
            await self.ckan(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._ended.set()
        if self._loop:
            await self._loop
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        """With the first request, where the server tells nothing of its own start."""
        if self._loop is None:
            servers.raise_open_files()
            self._loop = asyncio.create_task(self._run())
        await self._started.wait()

    async def _run(self) -> None:
        async with loop_of_server():
            self._started.set()
            await self._ended.wait()


class _Request:
    def __init__(self, front: Front, scope: Message, receive: Receive, send: Send) -> None:
        self._front = front
        self._handed = Handover()
        self._scope = {**scope, KEY: self._handed}
        self._receive = receive
        self._send = send
        # CKAN's answer, where it has left work: the head of a stream, or what is true as long as
        # an export runs.
        self._kept: list[Message] = []
        self._is_answered = False

    async def answer(self) -> None:
        """CKAN's answer, or what it has left to be done, until there is one."""
        try:
            self._kept = self._front.waits.resume(self._scope, self._handed)
            is_back = f"{HOP}=".encode() in self._scope["query_string"]
            if not self._kept and not await self._ask_ckan(BACK if is_back else NEW, self._receive):
                await self._refuse()
            while self._kept and (work := self._handed.work) is not None:
                if not await self._while_client_stays(partial(self._do, work)):
                    return
                self._handed.end()
                if self._is_answered:
                    return
                kept, self._kept = self._kept, []
                if not await self._ask_ckan(AGAIN, _nothing_more):
                    # What CKAN said of a wait sends the client back: its news waits for it.
                    await (self._send_all(kept) if isinstance(work, Wait) else self._refuse())
        finally:
            self._handed.end()

    async def _ask_ckan(self, comer: Comer, receive: Receive) -> bool:
        """Have CKAN answer; False where so many download that it had no thread for this one."""
        if "/datastore/dump" not in self._scope["path"]:
            with self._front.turns.page():
                await self._front.ckan(self._scope, receive, self._pass_on)
            return True
        async with self._front.turns.download(comer) as has_turn:
            if has_turn:
                await self._front.ckan(self._scope, receive, self._pass_on)
                self._front.waits.decided(self._scope, self._handed.work, self._kept)
        return has_turn

    async def _pass_on(self, message: Message) -> None:
        """What CKAN sends, but for an answer that leaves something to be done."""
        if self._kept:
            self._kept.append(message)
            return
        if message["type"] == "http.response.start":
            headers = [pair for pair in message["headers"] if pair[0].lower() != _HEADER]
            tokens = [value for name, value in message["headers"] if name.lower() == _HEADER]
            message["headers"] = headers
            if any(self._handed.takes(token.decode("latin-1")) for token in tokens):
                self._kept = [message]
                return
        await self._send(message)

    async def _while_client_stays(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do the work, unless the client goes away."""
        stays = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_with_client, tasks.cancel_scope)
            await work()
            stays = True
            tasks.cancel_scope.cancel()
        return stays

    async def _end_with_client(self, scope: anyio.CancelScope) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _do(self, work: Wait | Streamed) -> None:
        if isinstance(work, Wait):
            target, doing = work.plan.target, _waited(work)
        else:
            target, doing = work.target, self._stream(work)
        try:
            outcome = await doing
        except BigQueryDatastoreError as err:
            outcome = err
        if isinstance(outcome, Running):
            await self._send_all(self._kept)
            self._is_answered = True
        elif outcome is not None:
            self._handed.came(target, outcome)

    async def _send_all(self, kept: list[Message]) -> None:
        """As CKAN has answered. It is asked anew who may read when this client comes back."""
        # Before the end is told: the next request of this client may come at once.
        self._handed.end()
        for message in kept:
            await self._send(message)

    async def _stream(self, work: Streamed) -> None:
        """The answer's head and body; a failure before its first byte is CKAN's to tell.

        A later one is an error for the server, which breaks the client's connection.
        """
        length = None if work.rewrite else _length(work)
        head = _with_length(self._kept[0], length)
        sent = 0

        async def put(chunk: bytes) -> None:
            nonlocal sent
            if not sent:
                await self._send(head)
            sent += len(chunk)
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            # A server lets this pass when a slow reader has taken what is before it (uvicorn's
            # FlowControl.drain): until then nothing more is read, and held.
            await self._send({"type": "http.response.body", "body": b"", "more_body": True})

        download = Download(shared_loop().client, cut(work.parts, work.span), work.patience)
        try:
            if work.rewrite:
                await _rewrite(download, work.rewrite, put)
            else:
                await download.pass_on(put)
            if length not in (None, sent):
                raise OutsideError(f"The file ended after {sent} of {length} bytes.")
        except BigQueryDatastoreError as err:
            if sent:
                raise _Broken(str(err)) from err
            raise
        if not sent:
            await self._send(head)
        self._handed.end()
        await self._send({"type": "http.response.body", "body": b""})
        self._is_answered = True

    async def _refuse(self) -> None:
        text = (
            b"Many people download from this site at the moment. Ask again in some seconds, as "
            b"`curl --retry 20` does by itself.\n"
        )
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"retry-after", b"10"),
            (b"cache-control", b"no-store"),
        ]
        await self._send({"type": "http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "http.response.body", "body": text})


class _Broken(Exception):
    """A stream ended in the midst of a file."""


def _with_length(head: Message, length: int | None) -> Message:
    """An answer's head, which has the length of CKAN's own body: none."""
    headers = [pair for pair in head["headers"] if pair[0] != b"content-length"]
    known = [] if length is None else [(b"content-length", b"%d" % length)]
    return {**head, "headers": [*headers, *known]}


async def _waited(work: Wait) -> Any:
    return await watch.wait(work.engine, work.plan, work.state, work.seconds)


def _length(work: Streamed) -> int | None:
    return work.span.length if work.span else total_size(work.parts)


async def _rewrite(
    download: Download,
    rewrite: Callable[[Iterator[bytes]], Iterator[bytes]],
    put: Callable[[bytes], Awaitable[None]],
) -> None:
    """Pass a download on as ``rewrite`` makes it anew, in a thread: a block may be large."""
    failure: BigQueryDatastoreError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(download.run)
        try:
            # A refusal has to come before the first byte.
            first = await download.pipe.take()
            written = rewrite(chain(first, _taken(download.pipe)))
            while (chunk := await in_rewriter(partial(next, written, None))) is not None:
                await put(chunk)
        except BigQueryDatastoreError as err:
            failure = err
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _taken(pipe: Pipe) -> Iterator[bytes]:
    while chunks := anyio.from_thread.run(pipe.take):
        yield from chunks


async def _nothing_more() -> Message:
    """What CKAN reads of a request that it has read before."""
    return {"type": "http.request", "body": b"", "more_body": False}
