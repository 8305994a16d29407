"""The event loop of this process: all waiting for exports and all streaming is done in it.

Under WSGI one daemon thread runs it, with one HTTP client; workers reach it through a
blocking portal. Both are made at first use, so after a server has forked its workers;
a process that forks later makes its own, and leaves its parent's alone. Under ASGI it is the
server's own loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from asyncio import selector_events
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.to_thread
import httpx
from anyio.from_thread import BlockingPortal

# Connections that wait for the next download; those of slow visitors are not counted.
IDLE_CONNECTIONS = 100
IDLE_SECONDS = 15.0

# Threads for what blocks: calls to Google, and apart from them, what keeps a processor busy.
THREADS = 4

# What is read at once of a connection that a client has made. asyncio would read 256 KiB.
READ_BYTES = 32 * 1024

# And of one that this process has made: the least at first and after the reader has kept it waiting
# for so long, a bit more after any other read. Of a stream it lies in memory twice (h11, httpcore)
# while the visitor takes what came before.
LEAST_READ_BYTES, MORE_BYTES, MOST_READ_BYTES = 4 * 1024, 128, 128 * 1024
SLOW_SECONDS = 0.05

# What waits to be sent to a slow reader before no more is written; one chunk may lie above it.
# asyncio lets 64 KiB wait.
UNSENT_BYTES = 8 * 1024

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Loop:
    """The portal into the loop, and what may only be used inside of it."""

    portal: BlockingPortal
    client: httpx.AsyncClient
    callers: ThreadPoolExecutor
    turns: anyio.CapacityLimiter
    rewriters: anyio.CapacityLimiter


class _Home:
    """The loop of this process, if it has one yet."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loop: Loop | None = None
        # Never let go of what a parent process made: to clean it up here would talk
        # to the parent's loop and write to the parent's connections.
        self.inherited: list[Loop] = []

    def forget(self) -> None:
        # The lock may have been held at the moment of the fork, by a thread that is
        # not in this process.
        self.lock = threading.Lock()
        if self.loop is not None:
            self.inherited.append(self.loop)
        self.loop = None


_home = _Home()
os.register_at_fork(after_in_child=_home.forget)


def shared_loop() -> Loop:
    """The loop of this process; starts it if this is the first call."""
    with _home.lock:
        if _home.loop is None:
            _home.loop = _start()
        return _home.loop


@asynccontextmanager
async def loop_of_server() -> AsyncIterator[Loop]:
    """Make the loop that runs, a server's, that of this process for a while."""
    async with _made() as loop:
        with _home.lock:
            _home.loop = loop
        try:
            yield loop
        finally:
            with _home.lock:
                _home.loop = None
            await loop.portal.stop(cancel_remaining=True)


async def in_thread(work: Callable[[], _T]) -> _T:
    """What ``work`` gives, which talks to Google: done by one of the loop's few threads.

    What has begun is done to its end, also where nobody waits for it any more.
    """
    home = shared_loop()
    async with home.turns:
        begun = asyncio.get_running_loop().run_in_executor(home.callers, work)
        with anyio.CancelScope(shield=True):
            await asyncio.wait([begun])
    return begun.result()


async def in_rewriter(work: Callable[[], _T]) -> _T:
    """The same for what rewrites rows: it goes on while Google is silent."""
    return await anyio.to_thread.run_sync(work, limiter=shared_loop().rewriters)


def _start() -> Loop:
    started: Future[Loop] = Future()

    async def serve() -> None:
        try:
            async with _made() as loop:
                started.set_result(loop)
                await loop.portal.sleep_until_stopped()
        except BaseException as err:
            if not started.done():
                started.set_exception(err)
            raise

    # A daemon: the interpreter's end does not wait for downloads nobody reads.
    threading.Thread(
        target=anyio.run, args=(serve,), name="bigquery-downloads", daemon=True
    ).start()
    return started.result()


@asynccontextmanager
async def _made() -> AsyncIterator[Loop]:
    _keep_signatures_out_of_logs()
    _hold_little()
    callers = _callers()
    try:
        async with _client() as client, BlockingPortal() as portal:
            turns, rewriters = anyio.CapacityLimiter(THREADS), anyio.CapacityLimiter(THREADS)
            yield Loop(portal, client, callers, turns, rewriters)
    finally:
        callers.shutdown(wait=False)


def _callers() -> ThreadPoolExecutor:
    """All the threads that call Google there will be, at once: a crowd adds none."""
    callers = ThreadPoolExecutor(THREADS, thread_name_prefix="bigquery-caller")
    # A pool makes a thread only where none of its own is idle.
    all_there = threading.Barrier(THREADS)
    for _ in range(THREADS):
        callers.submit(all_there.wait)
    return callers


def _hold_little() -> None:
    """Bound what a connection holds, which no option of asyncio, anyio, httpx or uvicorn does."""
    if type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        log.warning(
            "This server runs on uvloop, which reads up to 8 MB ahead for each slow reader of a "
            "file. asyncio's own loop reads some KiB: uvicorn --loop asyncio."
        )
        return
    selector_events._SelectorSocketTransport = _Frugal  # type: ignore[attr-defined]


class _Frugal(selector_events._SelectorSocketTransport):  # type: ignore[name-defined]
    """A connection that reads and keeps little for one who takes little."""

    max_size = READ_BYTES
    _grown = LEAST_READ_BYTES
    _paused_at = 0.0

    def pause_reading(self) -> None:
        self._paused_at = time.monotonic()
        super().pause_reading()

    def resume_reading(self) -> None:
        # A client's is its server's: CKAN takes what is uploaded.
        if self._server is None:
            is_slow = time.monotonic() - self._paused_at > SLOW_SECONDS
            more = min(self._grown + MORE_BYTES, MOST_READ_BYTES)
            self.max_size = self._grown = LEAST_READ_BYTES if is_slow else more
        super().resume_reading()

    def _set_write_buffer_limits(
        self, high: int | None = UNSENT_BYTES, low: int | None = None
    ) -> None:
        super()._set_write_buffer_limits(high, low)


def _client() -> httpx.AsyncClient:
    # No upper limit of connections: each download holds two at most, and a limit
    # would only turn a connection that httpcore lost to a cancellation
    # (https://github.com/encode/httpcore/issues/1093) into a waiting visitor.
    return httpx.AsyncClient(
        limits=httpx.Limits(
            max_connections=None,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
        ),
        headers={"Accept-Encoding": "identity", "User-Agent": "ckanext-bigquery-datastore"},
        follow_redirects=False,
    )


class _WithoutQuery(logging.Filter):
    """Cuts the query off the URLs that httpx logs: it holds the signature."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                value.copy_with(query=None) if isinstance(value, httpx.URL) else value
                for value in record.args
            )
        return True


def _keep_signatures_out_of_logs() -> None:
    logger = logging.getLogger("httpx")
    if not any(isinstance(known, _WithoutQuery) for known in logger.filters):
        logger.addFilter(_WithoutQuery())
