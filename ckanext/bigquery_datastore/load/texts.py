"""The columns of a CSV file, which are loaded as texts: what each is, and its values. Pure.

BigQuery's own guess is not asked for: it takes codes such as ``01067`` and ``+49`` for numbers and
``N`` for a boolean, and looks at 500 rows (https://cloud.google.com/bigquery/docs/schema-detect).
Here a column has a type where every text of it, in all rows, is a value of that type in its usual
spelling, so that nothing is lost by it; any other column is a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from ckanext.bigquery_datastore.backend.table.model import quote_name
from ckanext.bigquery_datastore.backend.table.types import TYPES, Type
from ckanext.bigquery_datastore.load.files import ROW

# A statement may have 1 MB (https://cloud.google.com/bigquery/quotas#query_jobs): this many columns
# stay far below. Each statement is billed for the columns that it reads, none twice.
COLUMNS_AT_ONCE = 100

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
_ZONE = r"(?: ?UTC|Z|[+-][0-9]{2}(?::[0-9]{2})?)"


def _spelled(pattern: str, text: str) -> str:
    return f"REGEXP_CONTAINS({text}, r'^{pattern}$')"


def _kept_by_double(text: str) -> str:
    """Fifteen digits survive as a double; more may, where the double's own text is the same."""
    value = f"SAFE_CAST({text} AS FLOAT64)"
    digits = rf"REGEXP_REPLACE(REGEXP_REPLACE({text}, r'[eE].*$', ''), r'^-?[0.]+|[^0-9]', '')"
    return f"NOT IS_INF({value}) AND (LENGTH({digits}) <= 15 OR CAST({value} AS STRING) = {text})"


def _decimal(text: str) -> str:
    return _spelled(r"-?(?:0|[1-9][0-9]{0,28})\.[0-9]{1,9}", text)


def _date(pattern: str, type_name: str) -> Callable[[str], str]:
    return lambda text: (
        f"{_spelled(pattern, text)} AND {_converted(text, TYPES[type_name])} IS NOT NULL"
    )


def _day(rest: str, type_name: str) -> Callable[[str], str]:
    day = "|".join(rf"[0-9]{{1,2}}{sign}[0-9]{{1,2}}{sign}[0-9]{{4}}" for sign in ("/", "[.]", "-"))
    return lambda text: (
        f"{_spelled(f'(?:{day}){rest}', text)} "
        f"AND {_converted(_year_first(text), TYPES[type_name])} IS NOT NULL"
    )


# What a text may be where the day comes first.
_DAY_FIRST: tuple[tuple[Callable[[str], str], frozenset[str]], ...] = (
    (_day("", "date"), frozenset({"date"})),
    (_day(f"[T ]{_TIME}", "timestamp"), frozenset({"timestamp"})),
    (_day(f"[T ]{_TIME}{_ZONE}", "timestamptz"), frozenset({"timestamptz"})),
)

# What a text may be, the first that holds: how it is told, and the types that keep it. The first
# row tells most texts from all the others at once.
_KINDS: tuple[tuple[Callable[[str], str], frozenset[str]], ...] = _DAY_FIRST + tuple(
    (told, frozenset(kept_by.split()))
    for told, kept_by in (
        (lambda text: f"NOT REGEXP_CONTAINS({text}, r'^(?:[-.0-9]|[tT][rR]|[fF][aA])')", ""),
        (partial(_spelled, "-?(?:0|[1-9][0-9]{0,14})"), "int8 float8 numeric"),
        (
            lambda text: (
                f"{_spelled('-?[1-9][0-9]{15,18}', text)} "
                f"AND SAFE_CAST({text} AS INT64) IS NOT NULL"
            ),
            "int8 numeric",
        ),
        (partial(_spelled, "-?[1-9][0-9]{15,28}"), "numeric"),
        (
            # Fifteen digits and a point are kept without a closer look.
            lambda text: f"{_decimal(text)} AND (LENGTH({text}) <= 16 OR {_kept_by_double(text)})",
            "float8 numeric",
        ),
        (_decimal, "numeric"),
        (
            lambda text: (
                _spelled(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", text)
                + f" AND {_kept_by_double(text)}"
            ),
            "float8",
        ),
        (lambda text: f"LOWER({text}) IN ('true', 'false')", "bool"),
        (_date(_DATE, "date"), "date"),
        (_date(f"{_DATE}[T ]{_TIME}", "timestamp"), "timestamp"),
        (_date(f"{_DATE}[T ]{_TIME}{_ZONE}", "timestamptz"), "timestamptz"),
        (_date(_TIME, "time"), "time"),
        (lambda text: "TRUE", ""),
    )
)
_RECOGNISED = ("int8", "float8", "numeric", "bool", "date", "timestamp", "timestamptz", "time")

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


def is_as_it_stands(type_: Type) -> bool:
    """Whether every text is a value of the type."""
    return type_.bq == "STRING" and not type_.holds_json


def value(column: str, type_: Type, day_first: bool = False) -> str:
    """SQL for the value of a text: NULL where there is none, or where it is none of the type."""
    if is_as_it_stands(type_):
        return quote_name(column)
    return _converted(_text(column, day_first and type_.bq in _DAYS), type_)


# The types whose texts may begin with a day.
_DAYS = ("DATE", "DATETIME", "TIMESTAMP")


def _text(column: str, day_first: bool = False) -> str:
    text = f"NULLIF(TRIM({quote_name(column)}), '')"
    return _year_first(text) if day_first else text


def _year_first(text: str) -> str:
    """31.12.2024 and 1/2/2024 as 2024-12-31 and 2024-2-1, which a cast takes; others stay."""
    return (
        f"REGEXP_REPLACE({text}, r'^([0-9]{{1,2}})[./-]([0-9]{{1,2}})[./-]([0-9]{{4}})', "
        r"r'\3-\2-\1')"
    )


def _converted(text: str, type_: Type) -> str:
    if type_.holds_json:
        parsed = _CONVERSIONS["JSON"](text)
        # Of NULL, TO_JSON_STRING makes the text null.
        as_text = f"IF({parsed} IS NULL, NULL, TO_JSON_STRING({parsed}))"
        return parsed if type_.bq == "JSON" else as_text
    convert = _CONVERSIONS.get(type_.bq, lambda text: f"SAFE_CAST({text} AS {type_.bq})")
    return convert(text)


def kinds(column: str, day_first: bool = False) -> str:
    """SQL for what the texts of a column are, over all of its rows; see ``recognised``."""
    text = _text(column)
    rows = list(enumerate(_KINDS))
    cases = " ".join(
        f"WHEN {told(text)} THEN {1 << place}"
        # The last one holds for any text.
        for place, (told, _) in (rows if day_first else rows[len(_DAY_FIRST) :])
    )
    return f"BIT_OR(CASE WHEN {text} IS NULL THEN 0 {cases} END)"


def recognised(kinds: int | None) -> Type:
    """The type that keeps every text of a column; a column without one is a text."""
    met = [kept_by for place, (_, kept_by) in enumerate(_KINDS) if (kinds or 0) >> place & 1]
    fitting = (name for name in _RECOGNISED if met and all(name in kept_by for kept_by in met))
    return TYPES[next(fitting, "text")]


def is_bad(column: str, type_: Type, day_first: bool = False) -> str:
    """SQL that tells whether a text is no value of the type."""
    return f"TRIM({quote_name(column)}) != '' AND {value(column, type_, day_first)} IS NULL"


def first_bad(column: str, type_: Type, day_first: bool = False) -> str:
    """SQL for the number of the first row whose text is no value of the type; NULL for none."""
    return f"MIN(IF({is_bad(column, type_, day_first)}, {ROW}, NULL))"


def statements(expressions: Sequence[str], table: str) -> Iterator[str]:
    """Queries that give these values over a whole table, in their order, one row each."""
    left = iter(expressions)
    while some := list(islice(left, COLUMNS_AT_ONCE)):
        values = ", ".join(f"{sql} AS v{number}" for number, sql in enumerate(some))
        yield f"SELECT {values} FROM {table}"
