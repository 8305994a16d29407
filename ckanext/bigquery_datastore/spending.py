"""What this site has been billed for today, and what visitors without a login may still begin.

Counted by the day, and by the hour, in UTC (``counters``), where the site has a budget. The counts
are kept approximately: what others run in the project, and jobs whose end nobody has heard, are not
in them, and requests that run side by side may pass a limit together. BigQuery's own custom quotas
are exact (https://cloud.google.com/bigquery/docs/custom-quotas).
"""

from __future__ import annotations

import datetime as dt

from ckan.plugins import toolkit as tk
from flask import has_request_context

from ckanext.bigquery_datastore import config, counters
from ckanext.bigquery_datastore.errors import OverBudget

KEPT_SECONDS = 2 * 24 * 3600

# "Charges are rounded up to the nearest MB, with a minimum 10 MB per table and per query":
# https://cloud.google.com/bigquery/pricing#on_demand_pricing
LEAST_BYTES = 10 * 2**20


def check() -> None:
    """That the budget of the day is not used up, where an anonymous visitor asks.

    :raises OverBudget: it is
    """
    budget = config.daily_bytes_billed()
    if not budget or not is_anonymous() or counters.sum_of([_billed()]) < budget:
        return
    raise OverBudget(
        tk._(
            "This site has used up what searches may cost today. Try again tomorrow (UTC), log in, "
            "or download the whole table: downloads go on."
        )
        + f" ({config.DAILY_BYTES_BILLED}: {budget:,} bytes)",
        _seconds_until(dt.timedelta(days=1)),
    )


def add(processed: int) -> None:
    """Count a statement that has read so many bytes."""
    if processed and config.daily_bytes_billed():
        counters.add(_billed(), max(processed, LEAST_BYTES), KEPT_SECONDS)


# --- files of some rows: each filter, sort and limit is an export of its own


def check_export(is_whole: bool, is_anonymous: bool) -> None:
    """Count an export that an anonymous visitor begins; files of whole tables are not counted.

    :raises OverBudget: as many have begun this hour as may, or their files fill the bucket
    """
    if is_whole or not is_anonymous:
        return
    if (most := config.export_bucket_bytes()) and _stored() >= most:
        raise OverBudget(
            tk._(
                "This site keeps as many files of chosen rows as it can. Try again in an hour, log "
                "in, or download the whole table, which is always there."
            )
            + f" ({config.EXPORT_BUCKET_BYTES}: {most:,} bytes)",
            _seconds_until(dt.timedelta(hours=1)),
        )
    allowed = config.hourly_exports()
    if allowed and counters.add(f"exports:{_hour()}", 1, 2 * 3600) > allowed:
        raise OverBudget(
            tk._(
                "This site makes no more files of chosen rows in this hour. Try again in the next "
                "one, log in, or download the whole table, which is always there."
            )
            + f" ({config.HOURLY_EXPORTS}: {allowed:,})",
            _seconds_until(dt.timedelta(hours=1)),
        )


def add_export(is_whole: bool, billed: int, size: int) -> None:
    """Count a file that was made, and what it was billed for."""
    add(billed)
    if not is_whole and config.export_bucket_bytes():
        counters.add(f"stored:{_hour()}", size, (_kept_hours() + 1) * 3600)


def _stored() -> int:
    """The bytes of files of some rows that have not been swept yet."""
    now = _now()
    hours = (now - dt.timedelta(hours=ago) for ago in range(_kept_hours() + 1))
    return counters.sum_of([f"stored:{_hour(hour)}" for hour in hours])


def _kept_hours() -> int:
    """After how many hours a file that nobody asks for is swept (``dump/sweep``)."""
    return 2 * config.url_expiry_hours() + 1


def _billed() -> str:
    return f"billed:{_now():%Y-%m-%d}"


def _hour(moment: dt.datetime | None = None) -> str:
    return f"{moment or _now():%Y-%m-%dT%H}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def _seconds_until(step: dt.timedelta) -> int:
    """The seconds until the next hour, or the next day, begins."""
    seconds, now = int(step.total_seconds()), int(_now().timestamp())
    return seconds - now % seconds + 1


def is_anonymous() -> bool:
    """Whether a visitor without a login asks, and not one who is known, or the site itself."""
    return has_request_context() and bool(getattr(tk.current_user, "is_anonymous", False))
