"""One object's bytes in the thread that asks for them, as a WSGI worker: it is held in any case.

A chunk goes from the connection to the visitor without another thread, which takes a twentieth of
the processor's time that the event loop takes (``benchmarks/bench_stream.py``).
"""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from ckanext.bigquery_datastore.dump.stream.parts import Piece
from ckanext.bigquery_datastore.dump.stream.reading import (
    REFUSAL_BYTES,
    Passing,
    Patience,
    Reading,
    not_now,
)

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

CHUNK = 64 * 1024

# Connections to Cloud Storage that wait for the next download of this process.
IDLE_CONNECTIONS = 100

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "ckanext-bigquery-datastore"}

# One a process: a process that forks leaves its parent's connections alone.
_sessions: list[requests.Session] = []
_inherited: list[requests.Session] = []


def _forget() -> None:
    # Never let go of: to clean them up here would end the parent's connections.
    _inherited.extend(_sessions)
    _sessions.clear()


os.register_at_fork(after_in_child=_forget)


class DirectFetch:
    """The bytes of one piece, in order: ``next()`` until empty. ``close()`` ends it at any time.

    :param deadline: until when the first bytes have to be here, by ``time.monotonic``
    """

    def __init__(self, piece: Piece, patience: Patience, deadline: float = math.inf) -> None:
        self._url = piece.source.url
        self._patience = patience
        self._reading = Reading(piece, patience)
        self._response: BaseHTTPResponse | None = None
        self._deadline = deadline
        self._is_closed = False

    def next(self) -> bytes:
        """What has come since, at most 64 KiB, as soon as there is any; empty at the end.

        :raises OutsideError: Cloud Storage refused or failed, at any moment; or a subclass
        """
        while not self._is_closed:
            try:
                return self._read(self._response or self._connect())
            except (Passing, HTTPError) as err:
                self._let_go()
                if not self._is_closed:
                    time.sleep(min(self._reading.pause(err), self._left()))
            except AttributeError:
                # http.client's answer, closed by another thread while this one reads of it.
                if not self._is_closed:
                    raise
        return b""

    def close(self) -> None:
        """Close the connection, unless it was read to its end. From any thread."""
        self._is_closed = True
        self._let_go()

    def _let_go(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            # A thread that waits for more is woken; there may be none to be read.
            with suppress(ValueError, RuntimeError, OSError):
                response.shutdown()
            response.close()

    def _read(self, response: BaseHTTPResponse) -> bytes:
        chunk: bytes = response.read1(CHUNK, decode_content=False)
        if chunk:
            self._reading.take(chunk)
            if self._deadline != math.inf:
                self._deadline = math.inf
                _wait_for_more(response, self._patience.read)
        else:
            self._reading.end()
            self._is_closed, self._response = True, None
            response.release_conn()
        return chunk

    def _connect(self) -> BaseHTTPResponse:
        left = self._left()
        connect, read = min(self._patience.connect, left), min(self._patience.read, left)
        headers = {**_HEADERS, **self._reading.request()}
        self._response = response = _answer(self._url, headers, (connect, read))
        if not self._reading.is_answer(response.status):
            raise self._reading.refuse(response.status, response.read1(REFUSAL_BYTES))
        self._reading.accept(response.headers)
        return response

    def _left(self) -> float:
        """Seconds for the first bytes.

        :raises NotReachable: none
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise not_now()
        return left


def _wait_for_more(response: BaseHTTPResponse, seconds: float) -> None:
    """Let each further read take so long, however little time there was for the first."""
    sock = getattr(response.connection, "sock", None)
    if sock is not None:
        sock.settimeout(seconds)


def _answer(url: str, headers: dict[str, str], timeout: tuple[float, float]) -> BaseHTTPResponse:
    """The answer's head, its body not read yet; by the environment's proxy and certificates.

    :raises Passing: there is none. Without the words of the library's, which repeat the signature
    """
    request = requests.Request("GET", url, headers).prepare()
    # As it was signed: it would be quoted anew.
    request.url = url
    session = _session()
    settings = session.merge_environment_settings(url, {}, True, None, None)
    try:
        answer = session.send(request, timeout=timeout, allow_redirects=False, **settings)
    except requests.RequestException as err:
        raise Passing(type(err).__name__) from None
    return answer.raw


def _session() -> requests.Session:
    if not _sessions:
        _keep_signatures_out_of_logs()
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=IDLE_CONNECTIONS))
        _sessions.append(session)
    return _sessions[0]


class _WithoutQuery(logging.Filter):
    """Cuts the query off the paths that urllib3 logs: it holds the signature."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                value.partition("?")[0] if isinstance(value, str) else value
                for value in record.args
            )
        return True


def _keep_signatures_out_of_logs() -> None:
    logger = logging.getLogger("urllib3.connectionpool")
    if not any(isinstance(known, _WithoutQuery) for known in logger.filters):
        logger.addFilter(_WithoutQuery())
