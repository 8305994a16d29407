"""How the values of each type cross over between PostgreSQL and BigQuery, as text. Pure.

A row of ``KINDS`` says for one type: the text that PostgreSQL sends, the text that BigQuery sends,
the text by which both sides are compared, and what the other side cannot hold. A value is compared
by a text that both sides write alike to the last character: that is what makes a checksum that is
computed on either side, where the rows are, say something. PostgreSQL's texts depend on settings
of the session (``SETTINGS``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ckanext.bigquery_datastore.backend.table import conversion
from ckanext.bigquery_datastore.backend.table.types import Type

SqlOf = Callable[[str], str]

#: What PostgreSQL's texts of values depend on.
SETTINGS: Mapping[str, str] = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "search_path": "public",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


def _pg_text(sql: str) -> str:
    return f"{sql}::text"


@dataclass(frozen=True)
class Limit:
    """Values that the other side cannot hold: the SQL that tells one, and why that is."""

    holds: SqlOf
    why: str


@dataclass(frozen=True)
class Kind:
    """One type. Each function takes the SQL of a value to the SQL of its text.

    ``pg_text`` and ``bq_text`` are what is sent; ``pg_canon`` and ``bq_canon`` what is compared,
    of a value, or in ``bq_canon`` of what ``bq_plain`` makes of it beforehand. ``pg_value`` makes
    PostgreSQL's value of the text that BigQuery sent. ``pg_limits`` are values that BigQuery
    cannot hold, ``bq_limits`` those that PostgreSQL cannot.
    """

    pg_text: SqlOf = _pg_text
    bq_text: SqlOf = conversion.as_is
    pg_canon: SqlOf | None = None
    bq_canon: SqlOf | None = None
    bq_plain: SqlOf = conversion.as_is
    pg_value: SqlOf | None = None
    pg_limits: tuple[Limit, ...] = field(default=())
    bq_limits: tuple[Limit, ...] = field(default=())


def _numeric(sql: str) -> str:
    """Without the zeros at its end, which BigQuery's NUMERIC does not keep."""
    return (
        f"CASE WHEN {sql}::text LIKE '%.%' THEN rtrim(rtrim({sql}::text, '0'), '.') "
        f"ELSE {sql}::text END"
    )


# Floats below 2.2e-308 have fewer digits, which only PostgreSQL writes as few as can be: they are
# compared as multiples. A multiple by a power of two (2 ** 200) is exact.
_SMALL, _TIMES = "2.3e-308", "1.6069380442589903e60"


def _pg_float(sql: str) -> str:
    value = f"{sql}::float8"
    return (
        f"(CASE WHEN abs({value}) < '{_SMALL}'::float8 THEN {value} * '{_TIMES}'::float8 "
        f"ELSE {value} END)::text"
    )


def _bq_float(sql: str) -> str:
    return f"IF(ABS({sql}) < {_SMALL}, {sql} * {_TIMES}, {sql})"


def _all_digits(sql: str) -> str:
    """Of a float: seventeen digits tell every one; CAST and FORMAT take the sign from -0."""
    return f"IF({sql} = 0, IF(IEEE_DIVIDE(1, {sql}) < 0, '-0', '0'), FORMAT('%.17g', {sql}))"


def _years(type_: str) -> tuple[Limit, ...]:
    return (
        Limit(
            lambda sql: f"({sql} < '0001-01-01'::{type_} OR {sql} >= '10000-01-01'::{type_})",
            "BigQuery knows the years 1 to 9999 only: nothing BC, and no infinity",
        ),
    )


def _between(least: int, most: int, type_: str) -> tuple[Limit, ...]:
    return (
        Limit(
            lambda sql: f"{sql} NOT BETWEEN {least} AND {most}",
            f"PostgreSQL's {type_} ends at {most}",
        ),
    )


_NO_NUL = (
    Limit(
        lambda sql: f"REGEXP_CONTAINS({sql}, r'\\x00')",
        "PostgreSQL's texts hold no character U+0000",
    ),
)

_TEXT = Kind(bq_limits=_NO_NUL)
_NUMBER = conversion.cast("STRING")

KINDS: Mapping[str, Kind] = {
    "int2": Kind(bq_text=_NUMBER, bq_limits=_between(-(2**15), 2**15 - 1, "smallint")),
    "int4": Kind(bq_text=_NUMBER, bq_limits=_between(-(2**31), 2**31 - 1, "integer")),
    "int8": Kind(bq_text=_NUMBER),
    "numeric": Kind(
        pg_text=_numeric,
        bq_text=_NUMBER,
        pg_limits=(
            Limit(
                # NaN is more than any number there.
                lambda sql: f"(abs({sql}) >= 1e29 OR round({sql}, 9) <> {sql})",
                "BigQuery's NUMERIC has 29 digits before and 9 after the point, and no NaN",
            ),
        ),
    ),
    "float8": Kind(
        bq_text=_all_digits,
        pg_canon=_pg_float,
        bq_plain=_bq_float,
        bq_canon=conversion.float_text,
    ),
    # By its own text: 0.1 stays 0.1, which is not what a cast to twice the bits makes of it.
    "float4": Kind(
        bq_text=_all_digits,
        pg_canon=lambda sql: _pg_float(f"{sql}::text"),
        bq_plain=_bq_float,
        bq_canon=conversion.float_text,
        bq_limits=(
            Limit(
                lambda sql: f"(ABS({sql}) > 3.4028235e38 AND NOT IS_INF({sql}))",
                "PostgreSQL's real ends at 3.4028235e38",
            ),
        ),
    ),
    "bool": Kind(bq_text=_NUMBER),
    "date": Kind(bq_text=_NUMBER, pg_limits=_years("date")),
    "time": Kind(
        bq_text=conversion.formatted("FORMAT_TIME", "%H:%M:%E*S"),
        pg_limits=(
            Limit(lambda sql: f"{sql} = '24:00:00'::time", "BigQuery's days end before 24:00:00"),
        ),
    ),
    "timestamp": Kind(
        bq_text=conversion.formatted("FORMAT_DATETIME", "%E4Y-%m-%d %H:%M:%E*S"),
        pg_limits=_years("timestamp"),
    ),
    "timestamptz": Kind(
        bq_text=conversion.formatted("FORMAT_TIMESTAMP", "%E4Y-%m-%d %H:%M:%E*S+00"),
        pg_limits=_years("timestamptz"),
    ),
    # Core's own type: a document, and a text that is always empty.
    "nested": Kind(
        pg_text=lambda sql: f"({sql}).json::text",
        pg_value=lambda sql: f"CASE WHEN {sql} IS NOT NULL THEN ROW({sql}::json, '')::nested END",
        bq_limits=_NO_NUL,
    ),
}

#: PostgreSQL's own ``json``, which is ``nested`` in the DataStore.
JSON = Kind()

#: Lists, which the DataStore keeps as JSON: in PostgreSQL's own words.
LIST = Kind(pg_text=lambda sql: f"array_to_json({sql})::text", bq_limits=_NO_NUL)

#: The function of the session that ``pg_value`` of a list calls: see ``LIST_FUNCTION``.
_LIST_OF = "pg_temp.bigquery_list"

#: From JSON to the text of an array, of any number of dimensions.
LIST_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {_LIST_OF}(given json) RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
  RETURN CASE json_typeof(given)
    WHEN 'null' THEN 'NULL'
    WHEN 'array' THEN '{{' || coalesce((
      SELECT string_agg({_LIST_OF}(item), ',' ORDER BY place)
      FROM json_array_elements(given) WITH ORDINALITY AS items (item, place)
    ), '') || '}}'
    ELSE '"' || replace(replace(given #>> '{{}}', '\\', '\\\\'), '"', '\\"') || '"'
  END;
END $body$
"""


def of(type_: Type, native: str = "") -> Kind:
    """How values of a DataStore type cross over; ``native`` is what PostgreSQL calls it."""
    if type_.element is not None:
        return LIST
    if native == "json":
        return JSON
    return KINDS.get(type_.name, _TEXT)


def pg_canon(kind: Kind, sql: str) -> str:
    """PostgreSQL's SQL for the text by which a value is compared."""
    return (kind.pg_canon or kind.pg_text)(sql)


def bq_canon(kind: Kind, sql: str) -> str:
    """BigQuery's SQL for the same text, of a value that has gone through ``bq_plain``."""
    return (kind.bq_canon or kind.bq_text)(sql)


def pg_value(type_: Type, sql: str) -> str:
    """PostgreSQL's SQL for the value of a text that BigQuery sent."""
    if type_.element is not None:
        text = f"CASE WHEN {sql} IS NOT NULL THEN {_LIST_OF}({sql}::json) END"
        return f"({text})::{type_.native}"
    convert = of(type_).pg_value
    return convert(sql) if convert else f"{sql}::{type_.native}"
