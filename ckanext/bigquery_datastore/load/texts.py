"""The columns of a CSV file, which are loaded as texts: what each is, and its values. Pure.

BigQuery's own guess is not asked for: it takes codes such as ``01067`` and ``+49`` for numbers and
``N`` for a boolean, and looks at 500 rows (https://cloud.google.com/bigquery/docs/schema-detect).
Here a column has a type where every text of it, in all rows, is a value of that type in its usual
spelling, so that nothing is lost by it; any other column is a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from ckanext.bigquery_datastore.backend.table.model import quote_name
from ckanext.bigquery_datastore.backend.table.types import TYPES, Type
from ckanext.bigquery_datastore.load.files import ROW

# A statement may have 1 MB (https://cloud.google.com/bigquery/quotas#query_jobs): this many columns
# stay far below. Each statement is billed for the columns that it reads, none twice.
COLUMNS_AT_ONCE = 100

_NUMBER = r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+)"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
_ZONE = r"(?: ?UTC|Z|[+-][0-9]{2}(?::[0-9]{2})?)"


def _spelled(pattern: str) -> Callable[[str], str]:
    return lambda text: f"REGEXP_CONTAINS({text}, r'^{pattern}$')"


def _float_keeps(text: str) -> str:
    """Fifteen digits survive as a double; more may, where the double's own text is the same."""
    value = f"SAFE_CAST({text} AS FLOAT64)"
    digits = rf"REGEXP_REPLACE(REGEXP_REPLACE({text}, r'[eE].*$', ''), r'^-?[0.]+|[^0-9]', '')"
    return (
        f"{_spelled(_NUMBER + '(?:[eE][+-]?[0-9]+)?')(text)} AND NOT IS_INF({value}) "
        f"AND (LENGTH({digits}) <= 15 OR CAST({value} AS STRING) = {text})"
    )


#: The types that are recognised, the first that fits all texts: how their values are spelled.
_RECOGNISED: dict[str, Callable[[str], str]] = {
    "int8": _spelled("-?(?:0|[1-9][0-9]*)"),
    "float8": _float_keeps,
    "numeric": _spelled(r"-?(?:0|[1-9][0-9]{0,28})(?:\.[0-9]{1,9})?"),
    "bool": lambda text: f"LOWER({text}) IN ('true', 'false')",
    "date": _spelled(_DATE),
    "timestamp": _spelled(f"{_DATE}[T ]{_TIME}"),
    "timestamptz": _spelled(f"{_DATE}[T ]{_TIME}{_ZONE}"),
    "time": _spelled(_TIME),
}

# The spellings of https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-csv#data_types.
_BOOLEANS = {
    "TRUE": "('true', 't', 'yes', 'y', '1')",
    "FALSE": "('false', 'f', 'no', 'n', '0')",
}


def _boolean(text: str) -> str:
    cases = " ".join(f"WHEN LOWER({text}) IN {texts} THEN {of}" for of, texts in _BOOLEANS.items())
    return f"CASE {cases} END"


def _zoned(text: str) -> str:
    """A cast knows the zone's offset, not its name without a space before it."""
    return f"SAFE_CAST(REGEXP_REPLACE({text}, r' ?UTC$', '+00') AS TIMESTAMP)"


_CONVERSIONS: dict[str, Callable[[str], str]] = {
    "BOOL": _boolean,
    "TIMESTAMP": _zoned,
    "BYTES": lambda text: f"SAFE.FROM_BASE64({text})",
    "GEOGRAPHY": lambda text: f"SAFE.ST_GEOGFROMTEXT({text})",
    "JSON": lambda text: f"SAFE.PARSE_JSON({text}, wide_number_mode=>'round')",
}


def value(column: str, type_: Type) -> str:
    """SQL for the value of a text: NULL where there is none, or where it is none of the type."""
    sql = quote_name(column)
    if type_.bq == "STRING" and not type_.holds_json:
        return sql
    text = f"NULLIF(TRIM({sql}), '')"
    if type_.holds_json:
        parsed = _CONVERSIONS["JSON"](text)
        # Of NULL, TO_JSON_STRING makes the text null.
        as_text = f"IF({parsed} IS NULL, NULL, TO_JSON_STRING({parsed}))"
        return parsed if type_.bq == "JSON" else as_text
    convert = _CONVERSIONS.get(type_.bq, lambda text: f"SAFE_CAST({text} AS {type_.bq})")
    return convert(text)


def recognised(column: str) -> str:
    """SQL for the name of the type that fits every text of a column, over all of its rows."""
    text = f"NULLIF(TRIM({quote_name(column)}), '')"
    cases = " ".join(
        f"WHEN LOGICAL_AND({text} IS NULL OR "
        f"{spelled(text)} AND {value(column, TYPES[name])} IS NOT NULL) THEN '{name}'"
        for name, spelled in _RECOGNISED.items()
    )
    return f"CASE WHEN COUNT({text}) = 0 THEN 'text' {cases} ELSE 'text' END"


def first_bad(column: str, type_: Type) -> str:
    """SQL for the number of the first row whose text is no value of the type; NULL for none."""
    bad = f"TRIM({quote_name(column)}) != '' AND {value(column, type_)} IS NULL"
    return f"MIN(IF({bad}, {ROW}, NULL))"


def statements(expressions: Sequence[str], table: str) -> Iterator[str]:
    """Queries that give these values over a whole table, in their order, one row each."""
    left = iter(expressions)
    while some := list(islice(left, COLUMNS_AT_ONCE)):
        values = ", ".join(f"{sql} AS v{number}" for number, sql in enumerate(some))
        yield f"SELECT {values} FROM {table}"
