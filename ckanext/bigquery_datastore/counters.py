"""Counts and notes of the whole site, in CKAN's Redis: approximate, never in anybody's way.

A Redis that is down, or silent, breaks no request: it is taken for one that has counted nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from ckan.plugins import toolkit as tk

log = logging.getLogger(__name__)

# Redis answers in less than a thousandth of this. CKAN's own connections have no limit, and could
# hold a request for minutes: ``ckan.lib.redis`` is for queues that wait.
REDIS_SECONDS = 0.3
# How long nobody is asked after a Redis has not answered.
PAUSE_SECONDS = 30.0

_clients: dict[str, redis.Redis] = {}
_silent_until = 0.0


def sum_of(names: Sequence[str]) -> int:
    """What these counts hold together; those that nobody has made hold nothing."""
    found = _asked(lambda client: client.mget([_key(name) for name in names]))
    return sum(int(value or 0) for value in found or ())


def add(name: str, amount: int, seconds: int) -> int:
    """What a count holds after this much more; it is kept for so many seconds from now."""
    key = _key(name)

    def counted(client: redis.Redis) -> int:
        with client.pipeline() as steps:
            steps.incrby(key, amount)
            steps.expire(key, seconds)
            return int(steps.execute()[0])

    return _asked(counted) or 0


def note(name: str, text: str, seconds: int) -> None:
    """Have a text known to the whole site, for so many seconds at most."""
    _asked(lambda client: client.set(_key(name), text, ex=seconds))


def noted(name: str) -> str | None:
    """The text of this name, or None."""
    found = _asked(lambda client: client.get(_key(name)))
    return None if found is None else found.decode()


def forget(name: str) -> None:
    _asked(lambda client: client.delete(_key(name)))


def _key(name: str) -> str:
    return f"ckan:{tk.config.get('ckan.site_id')}:bigquery_datastore:{name}"


def _asked(ask: Callable[[redis.Redis], Any]) -> Any:
    """What Redis answers; None where it does not."""
    global _silent_until
    if time.monotonic() < _silent_until:
        return None
    try:
        return ask(_client(tk.config["ckan.redis.url"]))
    except (redis.RedisError, OSError) as err:
        _silent_until = time.monotonic() + PAUSE_SECONDS
        log.warning("Redis does not answer, nothing is counted: %s", err)
        return None


def _client(url: str) -> redis.Redis:
    """Its connections are made where they are used, and not shared across a fork."""
    if url not in _clients:
        _clients[url] = redis.Redis.from_url(
            url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        )
    return _clients[url]
