"""Values of Python code, which calls actions without JSON, as the texts of JSON. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Any


def plain(value: Any, bq_type: str) -> Any:
    """A date or a time as PostgreSQL writes it (its time zone: UTC); everything else as it is.

    Core hands them to PostgreSQL, which casts them to the type of their column.
    """
    if isinstance(value, dt.datetime):
        return _moment(value, bq_type)
    if isinstance(value, dt.date):
        return value if bq_type == "TIME" else value.isoformat()
    if isinstance(value, dt.time):
        return f"{value:%H:%M:%S}{_fraction(value)}"
    return value


def _moment(value: dt.datetime, bq_type: str) -> str:
    zone = ""
    if value.tzinfo is not None:
        value = value.astimezone(dt.timezone.utc).replace(tzinfo=None)
        zone = "+00"
    time = f"{value:%H:%M:%S}{_fraction(value)}"
    if bq_type == "TIME":
        return time
    day = value.date().isoformat()
    if bq_type == "DATE":
        return day
    # An offset is for those who keep it: texts show it, a column without a zone leaves it out.
    return f"{day} {time}{zone}"


def _fraction(value: dt.datetime | dt.time) -> str:
    return f".{value.microsecond:06d}".rstrip("0") if value.microsecond else ""
