"""The event loop of this process that all streamed downloads share.

One daemon thread runs one loop with one HTTP client; WSGI workers reach it through a
blocking portal. Both are made at first use, so after a server has forked its workers;
a process that forks later makes its own, and leaves its parent's alone.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass

import anyio
import httpx
from anyio.from_thread import BlockingPortal

# Connections that wait for the next download; those of slow visitors are not counted.
IDLE_CONNECTIONS = 100
IDLE_SECONDS = 15.0


@dataclass(frozen=True)
class Loop:
    """The portal into the loop, and the client that may only be used inside of it."""

    portal: BlockingPortal
    client: httpx.AsyncClient


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


def _start() -> Loop:
    started: Future[Loop] = Future()

    async def serve() -> None:
        try:
            async with _client() as client, BlockingPortal() as portal:
                started.set_result(Loop(portal, client))
                await portal.sleep_until_stopped()
        except BaseException as err:
            if not started.done():
                started.set_exception(err)
            raise

    _keep_signatures_out_of_logs()
    # A daemon: the interpreter's end does not wait for downloads nobody reads.
    threading.Thread(
        target=anyio.run, args=(serve,), name="bigquery-downloads", daemon=True
    ).start()
    return started.result()


def _client() -> httpx.AsyncClient:
    # No upper limit of connections: each WSGI worker holds two at most, and a limit
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
