"""What Google said a moment ago, so that a thousand clicks a second ask it once.

Kept per process for ``metadata_ttl_seconds``. Only what exists is kept: an answer of "not there"
is asked for anew each time. But whoever waits while another thread asks the same shares what that
one hears, a failure too: with Google down, a hundred visitors wait as long as one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import TTLCache

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError

_T = TypeVar("_T")

# Threads that ask for the same thing wait for one another; these many things can be asked at once.
_LOCKS = tuple(threading.Lock() for _ in range(256))


@dataclass(frozen=True)
class _Failure:
    """What somebody heard, and when (``time.monotonic``)."""

    error: BigQueryDatastoreError
    ended: float


def _again(err: BigQueryDatastoreError) -> BigQueryDatastoreError:
    """The same error for another thread. What makes it a sentence has been done to it already."""
    same = type(err).__new__(type(err), *err.args)
    same.__dict__.update(err.__dict__)
    return same


class Recent(Generic[_T]):
    """The last answers to one kind of question, none kept for longer than ``most_seconds``."""

    def __init__(self, most_seconds: float = math.inf) -> None:
        self._most_seconds = most_seconds
        self._found: TTLCache[str, _T] | None = None
        self._failed: TTLCache[str, _Failure] = TTLCache(maxsize=4096, ttl=60)
        self._guard = threading.Lock()

    def get(self, key: str, ask: Callable[[], _T | None]) -> _T | None:
        """What ``ask`` gave for this key within the time to live, or gives now.

        :raises BigQueryDatastoreError: as ``ask``, or as it did for whom this thread waited
        """
        if config.metadata_ttl_seconds() == 0:
            return ask()
        came = time.monotonic()
        with self._lock(key):
            with self._guard:
                kept = self._kept().get(key)
                failed = self._failed.get(key)
            if kept is not None:
                return kept
            if failed is not None and failed.ended > came:
                raise _again(failed.error) from failed.error
            try:
                answer = ask()
            except BigQueryDatastoreError as err:
                with self._guard:
                    self._failed[key] = _Failure(err, time.monotonic())
                raise
            if answer is not None:
                self.put(key, answer)
            return answer

    def put(self, key: str, answer: _T) -> None:
        """Keep an answer that came with another one."""
        if config.metadata_ttl_seconds():
            with self._guard:
                self._kept()[key] = answer

    def peek(self, key: str) -> _T | None:
        """What was heard within the time to live; asks nobody."""
        with self._guard:
            return self._kept().get(key)

    def has(self, key: str) -> bool:
        with self._guard:
            return key in self._kept()

    def forget(self, key: str) -> None:
        """Ask again next time, as this process has just changed what the key stands for."""
        # Whoever asks now may hear the old answer, and keep it: only then it is dropped.
        with self._lock(key), self._guard:
            self._kept().pop(key, None)

    def forget_under(self, prefix: str) -> None:
        """The same for every key that begins so."""
        with self._guard:
            for key in [key for key in self._kept() if key.startswith(prefix)]:
                del self._kept()[key]

    def clear(self) -> None:
        with self._guard:
            self._found = None
            self._failed.clear()

    def _lock(self, key: str) -> threading.Lock:
        return _LOCKS[hash((id(self), key)) % len(_LOCKS)]

    def _kept(self) -> TTLCache[str, _T]:
        if self._found is None:
            ttl = min(config.metadata_ttl_seconds(), self._most_seconds)
            self._found = TTLCache(maxsize=4096, ttl=ttl)
        return self._found
