"""What Google said a moment ago, so that a thousand clicks a second ask it once.

Kept per process for ``metadata_ttl_seconds``. Only what exists is kept: an answer of "not there"
is asked for anew each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from cachetools import TTLCache

from ckanext.bigquery_datastore import config

_T = TypeVar("_T")

# Threads that ask for the same thing wait for one another; these many things can be asked at once.
_LOCKS = tuple(threading.Lock() for _ in range(64))


class Recent(Generic[_T]):
    """The last answers to one kind of question."""

    def __init__(self) -> None:
        self._found: TTLCache[str, _T] | None = None
        self._guard = threading.Lock()

    def get(self, key: str, ask: Callable[[], _T | None]) -> _T | None:
        """What ``ask`` gave for this key within the time to live, or gives now."""
        if config.metadata_ttl_seconds() == 0:
            return ask()
        with _LOCKS[hash(key) % len(_LOCKS)]:
            with self._guard:
                kept = self._kept().get(key)
            if kept is not None:
                return kept
            answer = ask()
            if answer is not None:
                with self._guard:
                    self._kept()[key] = answer
            return answer

    def forget(self, key: str) -> None:
        """Ask again next time, as this process has just changed what the key stands for."""
        with self._guard:
            self._kept().pop(key, None)

    def clear(self) -> None:
        with self._guard:
            self._found = None

    def _kept(self) -> TTLCache[str, _T]:
        if self._found is None:
            self._found = TTLCache(maxsize=4096, ttl=config.metadata_ttl_seconds())
        return self._found
