"""What this site has been billed for today, and whether a search may go on. Exports count, too.

Counted in CKAN's Redis, by the day in UTC, where the site has a budget. The count is kept
approximately: what others run in the project, and jobs whose end nobody has heard, are not in it,
and searches that run side by side may pass the budget together. BigQuery's own custom quotas are
exact (https://cloud.google.com/bigquery/docs/custom-quotas).

A Redis that is down, or silent, breaks no request: the day is taken for one without a budget.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable
from typing import Any

import redis
from ckan.plugins import toolkit as tk
from flask import has_request_context

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.errors import OverBudget

log = logging.getLogger(__name__)

KEPT_SECONDS = 2 * 24 * 3600

# "Charges are rounded up to the nearest MB, with a minimum 10 MB per table and per query":
# https://cloud.google.com/bigquery/pricing#on_demand_pricing
LEAST_BYTES = 10 * 2**20

# Redis answers in less than a thousandth of this. CKAN's own connections have no limit, and could
# hold a request for minutes: ``ckan.lib.redis`` is for queues that wait.
REDIS_SECONDS = 0.3
# How long nobody is asked after a Redis has not answered.
PAUSE_SECONDS = 30.0

_clients: dict[str, redis.Redis] = {}
_silent_until = 0.0


def check() -> None:
    """That the budget of the day is not used up, where an anonymous visitor asks.

    :raises OverBudget: it is
    """
    budget = config.daily_bytes_billed()
    if not budget or not _is_anonymous():
        return
    spent = int(_asked(lambda found: found.get(_key())) or 0)
    if spent < budget:
        return
    now = _now()
    tomorrow = (now + dt.timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    raise OverBudget(
        tk._(
            "This site has used up what searches may cost today. Try again tomorrow (UTC), log in, "
            "or download the whole table: downloads go on."
        )
        + f" ({config.DAILY_BYTES_BILLED}: {budget:,} bytes)",
        int((tomorrow - now).total_seconds()) + 1,
    )


def add(processed: int) -> None:
    """Count a statement that has read so many bytes."""
    if not processed or not config.daily_bytes_billed():
        return
    key = _key()

    def counted(found: redis.Redis) -> None:
        with found.pipeline() as steps:
            steps.incrby(key, max(processed, LEAST_BYTES))
            steps.expire(key, KEPT_SECONDS)
            steps.execute()

    _asked(counted)


def _key() -> str:
    return f"ckan:{tk.config.get('ckan.site_id')}:bigquery_datastore:billed:{_now():%Y-%m-%d}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def _is_anonymous() -> bool:
    return has_request_context() and bool(getattr(tk.current_user, "is_anonymous", False))


def _asked(ask: Callable[[redis.Redis], Any]) -> Any:
    """What Redis answers; None where it does not."""
    global _silent_until
    if time.monotonic() < _silent_until:
        return None
    try:
        return ask(_client(tk.config["ckan.redis.url"]))
    except (redis.RedisError, OSError) as err:
        _silent_until = time.monotonic() + PAUSE_SECONDS
        log.warning("Redis does not answer, bytes billed are not counted: %s", err)
        return None


def _client(url: str) -> redis.Redis:
    """Its connections are made where they are used, and not shared across a fork."""
    if url not in _clients:
        _clients[url] = redis.Redis.from_url(
            url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        )
    return _clients[url]
