"""Fields and units of dates and times: EXTRACT, date_part, date_trunc, AT TIME ZONE. Pure.

https://www.postgresql.org/docs/15/functions-datetime.html. A session's time zone is UTC.
"""

from __future__ import annotations

import re

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres import intervals
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import Value, cast, coerced, refused
from ckanext.bigquery_datastore.backend.sql.postgres.template import say

_SECOND = "CAST(EXTRACT(SECOND FROM @a) AS NUMERIC)"
_MICRO = "CAST(EXTRACT(MICROSECOND FROM @a) AS NUMERIC)"

_OF_TIMES = {
    "hour": "EXTRACT(HOUR FROM @a)",
    "minute": "EXTRACT(MINUTE FROM @a)",
    "second": f"{_SECOND} + {_MICRO} / 1000000",
    "milliseconds": f"{_SECOND} * 1000 + {_MICRO} / 1000",
    "microseconds": "EXTRACT(SECOND FROM @a) * 1000000 + EXTRACT(MICROSECOND FROM @a)",
}
_OF_DATES = {
    "year": "EXTRACT(YEAR FROM @a)",
    "month": "EXTRACT(MONTH FROM @a)",
    "day": "EXTRACT(DAY FROM @a)",
    "quarter": "EXTRACT(QUARTER FROM @a)",
    "dow": "EXTRACT(DAYOFWEEK FROM @a) - 1",
    "isodow": "MOD(EXTRACT(DAYOFWEEK FROM @a) + 5, 7) + 1",
    "doy": "EXTRACT(DAYOFYEAR FROM @a)",
    "week": "EXTRACT(ISOWEEK FROM @a)",
    "isoyear": "EXTRACT(ISOYEAR FROM @a)",
    "decade": "DIV(EXTRACT(YEAR FROM @a), 10)",
    "century": "DIV(EXTRACT(YEAR FROM @a) + 99, 100)",
    "millennium": "DIV(EXTRACT(YEAR FROM @a) + 999, 1000)",
}
_MICROS = "CAST({} AS NUMERIC) / 1000000"
_EPOCHS = {
    "date": "DATE_DIFF(@a, CAST('1970-01-01' AS DATE), DAY) * 86400",
    "timestamp": _MICROS.format(
        "DATETIME_DIFF(@a, CAST('1970-01-01 00:00:00' AS DATETIME), MICROSECOND)"
    ),
    "timestamptz": _MICROS.format("UNIX_MICROS(@a)"),
    "time": _MICROS.format("TIME_DIFF(@a, CAST('00:00:00' AS TIME), MICROSECOND)"),
}

#: What EXTRACT gives, by the kind of its source.
FIELDS = {
    "date": {**_OF_DATES, "epoch": _EPOCHS["date"]},
    "time": {**_OF_TIMES, "epoch": _EPOCHS["time"]},
    "timestamp": {**_OF_DATES, **_OF_TIMES, "epoch": _EPOCHS["timestamp"]},
    "timestamptz": {
        **_OF_DATES,
        **_OF_TIMES,
        "epoch": _EPOCHS["timestamptz"],
        **dict.fromkeys(("timezone", "timezone_hour", "timezone_minute"), "0 * UNIX_MICROS(@a)"),
    },
}
_NAMES = {
    **{name: name for fields in FIELDS.values() for name in fields},
    **{f"{name}s": name for name in ("hour", "minute", "second", "day", "month", "year", "week")},
    **dict.fromkeys(("decades", "dec", "decs"), "decade"),
    **dict.fromkeys(("centuries", "cent", "c"), "century"),
    **dict.fromkeys(("millenniums", "millennia", "mil", "mils"), "millennium"),
    **dict.fromkeys(("millisecond", "ms", "msec", "msecs"), "milliseconds"),
    **dict.fromkeys(("microsecond", "us", "usec", "usecs"), "microseconds"),
    **dict.fromkeys(("sec", "secs", "s"), "second"),
    **dict.fromkeys(("min", "mins", "m"), "minute"),
    **dict.fromkeys(("hr", "hrs", "h"), "hour"),
    **dict.fromkeys(("mon", "mons"), "month"),
    **dict.fromkeys(("yr", "yrs", "y"), "year"),
    **dict.fromkeys(("d",), "day"),
    **dict.fromkeys(("w",), "week"),
}

_PLAIN_UNITS = {
    name: name.upper() for name in ("second", "minute", "hour", "day", "month", "quarter", "year")
} | {"milliseconds": "MILLISECOND", "microseconds": "MICROSECOND", "week": "ISOWEEK"}

#: Units that BigQuery has not: the year that one begins with.
_LONG_UNITS = {
    "decade": "DIV(EXTRACT(YEAR FROM @a), 10) * 10",
    "century": "DIV(EXTRACT(YEAR FROM @a) - 1, 100) * 100 + 1",
    "millennium": "DIV(EXTRACT(YEAR FROM @a) - 1, 1000) * 1000 + 1",
}

# PostgreSQL takes ``CET`` for an hour without summer time, and ``UTC+2`` for one west of it.
_ZONE = re.compile(r"UTC|GMT|(?!posix/|right/)[A-Z][A-Za-z_]+(/[A-Z][A-Za-z0-9_+-]+)+", re.ASCII)


def field_name(text: str) -> str:
    name = _NAMES.get(text.lower())
    if name is None:
        raise refused(f'unit "{text[:100]}" not recognized')
    return name


def extract(name: str, value: Value) -> Value:
    """``EXTRACT(name FROM value)``: a numeric."""
    name = field_name(name)
    if value.parts is not None:
        return Value(intervals.field(value, name), "numeric")
    if value.quoted is not None or value.is_null or value.kind not in FIELDS:
        raise refused(f"function pg_catalog.extract(unknown, {value.native}) does not exist")
    how = FIELDS[value.kind].get(name)
    if how is None:
        raise refused(f'unit "{name}" not supported for type {value.native}')
    return Value(cast(say(how, a=value.tree), "numeric"), "numeric")


def date_part(name: str, value: Value) -> Value:
    """The same as a float8; of a date, the time is midnight."""
    if value.kind == "date" and field_name(name) in _OF_TIMES:
        value = Value(coerced(value, "timestamp"), "timestamp")
    return Value(cast(extract(name, value).tree, "float8"), "float8")


def date_trunc(name: str, value: Value, zone: Value | None) -> Value:
    """A moment's year, month … as it begins. PostgreSQL takes a date for a timestamptz."""
    if value.kind == "date" or value.quoted is not None:
        value = Value(coerced(value, "timestamptz"), "timestamptz")
    if value.kind not in ("timestamp", "timestamptz"):
        raise refused(f"date_trunc of {value.native} cannot be said in GoogleSQL")
    if zone is not None and value.kind == "timestamp":
        raise refused("function date_trunc(unknown, timestamp, unknown) does not exist")
    function = "DATETIME" if value.kind == "timestamp" else "TIMESTAMP"
    unit = field_name(name)
    if unit in _PLAIN_UNITS:
        if zone is None:
            how = f"{function}_TRUNC(@a, {_PLAIN_UNITS[unit]})"
            return Value(say(how, a=value.tree), value.kind)
        local = at_time_zone(value, zone)
        return at_time_zone(date_trunc(name, local, None), zone)
    if unit not in _LONG_UNITS or zone is not None:
        raise refused(f'unit "{unit}" cannot be said in GoogleSQL for date_trunc')
    begins = say(f"DATETIME({_LONG_UNITS[unit]}, 1, 1, 0, 0, 0)", a=value.tree)
    return Value(cast(begins, "timestamptz") if function == "TIMESTAMP" else begins, value.kind)


def at_time_zone(value: Value, zone: Value) -> Value:
    """``value AT TIME ZONE zone``: from one with a zone to one without, and back."""
    if zone.quoted is None:
        raise refused("The time zone can only be a literal here")
    name = exp.Literal.string(zone.quoted)
    if not _ZONE.fullmatch(zone.quoted):
        raise refused(
            f'The time zone "{zone.quoted[:100]}" cannot be said in GoogleSQL: '
            'name UTC or a place, as in "Europe/Vienna"'
        )
    if value.quoted is not None or value.kind == "date":
        value = Value(coerced(value, "timestamptz"), "timestamptz")
    if value.kind == "timestamp":
        return Value(say("TIMESTAMP(@a, @b)", a=value.tree, b=name), "timestamptz")
    if value.kind == "timestamptz":
        return Value(say("DATETIME(@a, @b)", a=value.tree, b=name), "timestamp")
    raise refused(f"{value.native} AT TIME ZONE cannot be said in GoogleSQL")
