"""How many requests of this process may wait for an export, or be streamed to, at a time.

Both would hold the threads that CKAN's other pages need. Whoever finds no place is told so at
once; nothing here waits.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import config, servers
from ckanext.bigquery_datastore.errors import Crowded

log = logging.getLogger(__name__)

# Of a WSGI server's threads, one in four may wait and one in four be streamed to: half of them
# are left to everything else. Under ASGI no thread is held, but connections are: one by who
# waits, up to three by a stream.
_OF_THREADS = 4
_WAITING_OF_FILES, _STREAMING_OF_FILES = 2, 8
_MOST = 10_000

# How long nobody new gets the place of who was sent back to the same address, and comes at once.
_COMES_BACK_SECONDS = 2.0


class Places:
    """A number of places, which ``most`` tells; one is taken at once, or there is none."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._forget()
        # Those of a parent process are not taken here.
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # One that can be taken twice: a place that is forgotten is left in the midst of anything.
        self._lock = threading.RLock()
        self.taken = 0
        self._kept_until: deque[float] = deque()

    @property
    def most(self) -> int:
        return self._most()

    @property
    def is_full(self) -> bool:
        with self._lock:
            return self.taken + self._kept() >= self.most

    def take(self, *, is_back: bool = False) -> Place:
        """
        :raises Crowded: as ``find`` finds none
        """
        place = self.find(is_back=is_back)
        if place is None:
            raise self.refusal()
        return place

    def refusal(self) -> Crowded:
        return Crowded(
            f"{self.taken} downloads wait or run in this process already. Come back in "
            "some seconds: what was begun goes on."
        )

    def find(self, *, is_back: bool = False) -> Place | None:
        """A place; None where all are taken.

        :param is_back: for who had a place a moment ago, perhaps in another process: as many again
            are kept for those, so that who was let in is not turned away half-way
        """
        most = self.most * (2 if is_back else 1)
        with self._lock:
            if is_back and self._kept():
                self._kept_until.popleft()
            if self.taken + (0 if is_back else self._kept()) >= most:
                return None
            self.taken += 1
        return Place(self)

    def keep(self) -> None:
        """Keep a place for who leaves one and comes back, perhaps to another process.

        Without it somebody new is let in for each who is on the way, and at last there are more of
        those who were let in than ``take`` has places for.
        """
        with self._lock:
            self._kept_until.append(time.monotonic() + _COMES_BACK_SECONDS)

    def _kept(self) -> int:
        while self._kept_until and self._kept_until[0] < time.monotonic():
            self._kept_until.popleft()
        return len(self._kept_until)

    def _left(self) -> None:
        with self._lock:
            self.taken -= 1


class Place:
    """One that is taken, until it is left."""

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places

    def leave(self) -> None:
        """Does no harm when called again."""
        places, self._places = self._places, None
        if places is not None:
            places._left()

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def __del__(self) -> None:
        # An answer that was replaced by another one on its way to the server is never closed.
        self.leave()


def _waiting() -> int:
    wanted = config.waiting_requests()
    return _by_server(_WAITING_OF_FILES) if wanted is None else wanted


def _streaming() -> int:
    wanted = config.streaming_requests()
    return _by_server(_STREAMING_OF_FILES) if wanted is None else wanted


def _by_server(of_files: int) -> int:
    threads = server().threads
    if threads is None:
        return max(1, min(servers.open_files() // of_files, _MOST))
    return max(1, threads // _OF_THREADS)


_servers: dict[int, servers.Server] = {}


def server() -> servers.Server:
    """The server of this process, as its first request showed it."""
    pid = os.getpid()
    if pid not in _servers:
        _servers[pid] = found = servers.of_request(tk.request.environ)
        log.info(
            "%s, %s threads: in this process %d requests may wait for an export at a time (%s), "
            "and %d files be streamed (%s)",
            found.name,
            found.threads or "no",
            WAITING.most,
            config.WAITING_REQUESTS,
            STREAMING.most,
            config.STREAMING_REQUESTS,
        )
    return _servers[pid]


WAITING = Places(_waiting)
STREAMING = Places(_streaming)
