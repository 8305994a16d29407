"""The types of the DataStore: PostgreSQL's names, and what BigQuery makes of them.

``TYPES`` has a row for each type that CKAN knows; a row says how the type is called, how a
value is checked and written, how it is read, and how it is exported as text. Pure: no CKAN,
no google.cloud.

Where BigQuery has the same type, it is used. Three choices need a reason:

- ``json``, ``jsonb``, ``nested`` and arrays are STRINGs holding JSON. PostgreSQL's ``json``
  keeps the text as it was sent and ``jsonb`` has an order and spaces of its own, BigQuery's JSON
  neither; a BigQuery ARRAY can be neither NULL nor hold a NULL. It would show in every dump.
- ``timestamp`` is DATETIME (no time zone in either), ``timestamptz`` is TIMESTAMP.
- ``numeric`` is NUMERIC: 29 digits before and 9 after the point; further decimals are
  rounded. BIGNUMERIC holds more, but most readers of Parquet refuse it.

Types of tables that CKAN did not make get a name to show, and are read as they are.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any

from ckanext.bigquery_datastore.backend.table import values
from ckanext.bigquery_datastore.backend.table.values import BadValue as BadValue

Json = Any  # what json.loads gives
SqlOf = Callable[[str], str]


# --- reading: what google-cloud-bigquery gives -> what core's JSON API gives -----------------


def _same(value: Any) -> Json:
    return value


def _read_number(value: Any) -> Json:
    """PostgreSQL writes a float without a fraction as 40, and the odd ones as texts."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value.normalize()
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _fraction(micros: int) -> str:
    return f".{micros:06d}".rstrip("0") if micros else ""


def _read_time(value: Any) -> Json:
    return value.strftime("%H:%M:%S") + _fraction(value.microsecond)


def _read_timestamp(value: Any, milliseconds: bool = True) -> Json:
    text = value.replace(microsecond=0, tzinfo=None).isoformat()
    return f"{text}.{value.microsecond // 1000:03d}" if milliseconds else text


def _read_timestamptz(value: Any) -> Json:
    return (
        value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        + f"{_fraction(value.microsecond)}+00:00"
    )


def _read_json(value: Any) -> Json:
    return json.loads(value) if isinstance(value, str) else value


def _read_bytes(value: Any) -> Json:
    return base64.b64encode(value).decode("ascii")


def _read_other(value: Any) -> Json:
    """Values of columns that CKAN did not make: structs, arrays, intervals, ranges."""
    if isinstance(value, Mapping):
        return {key: _read_other(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_read_other(item) for item in value]
    if isinstance(value, bytes):
        return _read_bytes(value)
    if isinstance(value, (float, Decimal)):
        return _read_number(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


# --- text: what core's CSV has for a value of the client library ------------------------------


def _text_of(value: Any) -> str:
    return str(value)


def _text_of_bool(value: Any) -> str:
    return "t" if value else "f"


def float_text(value: float) -> str:
    """A float as PostgreSQL 12 and newer print it: the shortest text that reads back."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    number = Decimal(repr(float(value)))
    digits, exponent = f"{number.normalize():e}".split("e")
    if -4 <= int(exponent) < 15:
        return values.plain_number(number)
    return f"{digits}e{'-' if int(exponent) < 0 else '+'}{abs(int(exponent)):02d}"


def _text_of_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _text_of_foreign(value: Any) -> str:
    read_value = _read_other(value)
    return read_value if isinstance(read_value, str) else _text_of_json(read_value)


# --- SQL: text that was checked -> a value of the column's type, and back --------------------


def _cast(bq_type: str) -> SqlOf:
    return lambda sql: f"CAST({sql} AS {bq_type})"


def _as_is(sql: str) -> str:
    return sql


def _export_float(sql: str) -> str:
    """PostgreSQL's text: the fewest of 15, 16 and 17 digits that read back, an exponent from 1e15.

    BigQuery's own CAST never writes 16 digits, and takes the sign from -0 (it is as it is in
    GoogleSQL's RoundTripDoubleToString: https://github.com/google/googlesql). SAFE_CAST, because
    the largest numbers do not fit any more once they are rounded.
    """

    def written(form: str) -> str:
        return f"FORMAT('{form}', {sql})"

    def if_exact(form: str) -> str:
        return f"WHEN SAFE_CAST({written(form)} AS FLOAT64) = {sql} THEN {written(form)}"

    return (
        f"CASE WHEN IS_NAN({sql}) THEN 'NaN' "
        f"WHEN IS_INF({sql}) THEN IF({sql} > 0, 'Infinity', '-Infinity') {if_exact('%.15g')} "
        f"WHEN ABS({sql}) >= 1e15 THEN CASE {if_exact('%.15e')} ELSE {written('%.16e')} END "
        f"{if_exact('%.16g')} ELSE {written('%.17g')} END"
    )


def _export_document(sql: str) -> str:
    return f"IFNULL({sql}, 'null')"


def _export_json(sql: str) -> str:
    # TO_JSON_STRING makes the text 'null' of a NULL.
    return f"IF({sql} IS NULL, NULL, TO_JSON_STRING({sql}))"


def _formatted(function: str, pattern: str) -> SqlOf:
    return lambda sql: f"{function}('{pattern}', {sql})"


@dataclass(frozen=True)
class Type:
    """One type of a column.

    ``name`` is what core calls it (``pg_type.typname``), ``native`` what PostgreSQL's
    ``format_type`` says, ``bq`` BigQuery's type. ``writer`` takes a client's value to text
    (see ``values``), ``from_text`` is the SQL from that text to the column's type, ``read``
    takes the client library's value to JSON, ``csv`` takes it to the text of a CSV cell,
    ``export`` is the SQL of the same text, for dumps.
    """

    name: str
    native: str
    bq: str
    writer: values.Writer = field(compare=False)
    read: Callable[[Any], Json] = field(default=_same, compare=False)
    csv: Callable[[Any], str] = field(default=_text_of, compare=False)
    from_text: SqlOf = field(default=_as_is, compare=False)
    export: SqlOf = field(default=_as_is, compare=False)
    aliases: tuple[str, ...] = ()
    element: str | None = None
    document: bool = False  # JSON in a STRING; core's text formats write NULL as ``null``

    def write(self, value: Any) -> str:
        """The text of a client's value.

        :raises BadValue: it is none of this type, whatever it is
        """
        try:
            return self.writer(value)
        except BadValue:
            raise
        except (ValueError, ArithmeticError, RecursionError) as err:
            # Such as a number of 5,000 digits, or a time zone that does not exist.
            raise BadValue(f"value out of range for type {self.native}") from err

    @property
    def holds_json(self) -> bool:
        """Whether its values are JSON documents, whatever BigQuery keeps them in."""
        return self.read is _read_json

    @property
    def is_number(self) -> bool:
        return self.bq in ("INT64", "FLOAT64", "NUMERIC", "BIGNUMERIC")


def _integer(name: str, native: str, bits: int, *aliases: str) -> Type:
    write = partial(values.integer, type_name=native, bits=bits)
    cast = _cast("INT64")
    return Type(
        name, native, "INT64", write, from_text=cast, export=_cast("STRING"), aliases=aliases
    )


def _string(name: str, native: str, *aliases: str, writer: values.Writer = values.text) -> Type:
    return Type(name, native, "STRING", writer, aliases=aliases)


_ROWS = (
    _string("text", "text"),
    _string("varchar", "character varying", "character varying", "char varying"),
    _string("bpchar", "character", "char", "character"),
    _string("name", "name"),
    _string("xml", "xml"),
    _string("inet", "inet"),
    _string("cidr", "cidr"),
    _string("macaddr", "macaddr"),
    _string("uuid", "uuid", writer=values.uuid_text),
    _integer("int2", "smallint", 16, "smallint"),
    _integer("int4", "integer", 32, "int", "integer"),
    _integer("int8", "bigint", 64, "bigint"),
    Type(
        "numeric",
        "numeric",
        "NUMERIC",
        values.numeric,
        read=_read_number,
        csv=values.plain_number,
        from_text=lambda sql: f"PARSE_NUMERIC({sql})",
        export=_cast("STRING"),
        aliases=("decimal",),
    ),
    Type(
        "float8",
        "double precision",
        "FLOAT64",
        values.floating,
        read=_read_number,
        csv=float_text,
        from_text=_cast("FLOAT64"),
        export=_export_float,
        aliases=("float", "double precision"),
    ),
    Type(
        "float4",
        "real",
        "FLOAT64",
        values.floating,
        read=_read_number,
        csv=float_text,
        from_text=_cast("FLOAT64"),
        export=_export_float,
        aliases=("real",),
    ),
    Type(
        "bool",
        "boolean",
        "BOOL",
        values.boolean,
        csv=_text_of_bool,
        from_text=_cast("BOOL"),
        export=lambda sql: f"CASE WHEN {sql} THEN 't' WHEN NOT {sql} THEN 'f' END",
        aliases=("boolean",),
    ),
    Type(
        "date",
        "date",
        "DATE",
        values.date,
        read=lambda value: value.isoformat(),
        csv=lambda value: value.isoformat(),
        from_text=_cast("DATE"),
        export=_cast("STRING"),
    ),
    Type(
        "time",
        "time without time zone",
        "TIME",
        values.time,
        read=_read_time,
        csv=_read_time,
        from_text=_cast("TIME"),
        export=_formatted("FORMAT_TIME", "%H:%M:%E*S"),
        aliases=("time without time zone",),
    ),
    Type(
        "timestamp",
        "timestamp without time zone",
        "DATETIME",
        values.timestamp,
        read=_read_timestamp,
        csv=_read_timestamp,
        from_text=_cast("DATETIME"),
        export=_formatted("FORMAT_DATETIME", "%E4Y-%m-%dT%H:%M:%E3S"),
        aliases=("timestamp without time zone",),
    ),
    Type(
        "timestamptz",
        "timestamp with time zone",
        "TIMESTAMP",
        values.timestamptz,
        read=_read_timestamptz,
        csv=lambda value: _read_timestamptz(value).replace("T", " ").removesuffix(":00"),
        from_text=_cast("TIMESTAMP"),
        export=_formatted("FORMAT_TIMESTAMP", "%E4Y-%m-%d %H:%M:%E*S+00"),
        aliases=("timestamp with time zone",),
    ),
    # Core turns ``json`` into its own type ``nested``, and back again for the client.
    Type(
        "nested",
        "nested",
        "STRING",
        values.nested,
        read=_read_json,
        export=_export_document,
        aliases=("json",),
        document=True,
    ),
    Type(
        "jsonb",
        "jsonb",
        "STRING",
        values.jsonb_text,
        read=_read_json,
        csv=_text_of_json,
    ),
)

TYPES: Mapping[str, Type] = {row.name: row for row in _ROWS}
_BY_ALIAS = {alias: row for row in _ROWS for alias in (row.name, *row.aliases)}


def _refuse(value: Any) -> str:
    raise values.BadValue('column "{column}" is of a type that the DataStore cannot write')


#: Columns of tables that CKAN did not make: BigQuery's type -> the row to show and export.
_FOREIGN: Mapping[str, Type] = {
    "STRING": TYPES["text"],
    "INT64": TYPES["int8"],
    "FLOAT64": TYPES["float8"],
    "NUMERIC": TYPES["numeric"],
    "BIGNUMERIC": replace(
        TYPES["numeric"],
        bq="BIGNUMERIC",
        writer=_refuse,
        from_text=lambda sql: f"PARSE_BIGNUMERIC({sql})",
    ),
    "BOOL": TYPES["bool"],
    "DATE": TYPES["date"],
    "TIME": TYPES["time"],
    "DATETIME": TYPES["timestamp"],
    "TIMESTAMP": TYPES["timestamptz"],
    "JSON": replace(
        TYPES["jsonb"],
        bq="JSON",
        from_text=lambda sql: f"PARSE_JSON({sql})",
        export=_export_json,
    ),
    "BYTES": Type(
        "bytea",
        "bytea",
        "BYTES",
        _refuse,
        read=_read_bytes,
        csv=_read_bytes,
        export=lambda sql: f"TO_BASE64({sql})",
    ),
    "GEOGRAPHY": Type(
        "geography",
        "geography",
        "GEOGRAPHY",
        _refuse,
        read=_read_other,
        export=lambda sql: f"ST_ASTEXT({sql})",
    ),
    "INTERVAL": Type(
        "interval", "interval", "INTERVAL", _refuse, read=_read_other, export=_cast("STRING")
    ),
    "RANGE": Type("range", "range", "RANGE", _refuse, read=_read_other, export=_cast("STRING")),
    "STRUCT": Type(
        "nested",
        "nested",
        "STRUCT",
        _refuse,
        read=_read_other,
        csv=_text_of_foreign,
        export=_export_json,
    ),
}

#: The API's old names of BigQuery's types.
LEGACY_NAMES = {
    "INTEGER": "INT64",
    "FLOAT": "FLOAT64",
    "BOOLEAN": "BOOL",
    "RECORD": "STRUCT",
    "DECIMAL": "NUMERIC",
    "BIGDECIMAL": "BIGNUMERIC",
}


def _write_plain_float(value: Any) -> str:
    """A float inside JSON as ``array_to_json`` writes it: 1, not 1.0; a text for NaN."""
    text = float_text(float(values.floating(value)))
    return text if text[-1].isdigit() else f'"{text}"'


def array_of(element: Type) -> Type:
    """The array type that CKAN makes: a STRING with the JSON of the list."""
    write = _write_plain_float if element.bq == "FLOAT64" else element.write
    quoted = not (element.is_number or element.name == "bool")
    return Type(
        f"_{element.name}",
        f"{element.native}[]",
        "STRING",
        partial(values.array, element=write, quoted=quoted),
        read=_read_json,
        export=_export_document,
        element=element.name,
        document=True,
    )


_MODIFIER = re.compile(r"\A(.*?)\s*\(\s*([0-9]+)\s*(?:,\s*([0-9]+)\s*)?\)\s*(.*)\Z")


def of_name(name: str) -> Type | None:
    """The type that a client asks for: ``int``, ``_text``, ``text[]``, ``varchar(20)`` …

    None for what PostgreSQL has not, or what BigQuery has no place for.
    """
    given = " ".join(str(name).lower().split())
    array = re.match(r"(.*?)\s*((\[\s*[0-9]*\s*\])+)\Z", given)
    if array:
        element = of_name(array.group(1))
        return array_of(element) if element and not element.element else None
    if given.startswith("_"):
        element = TYPES.get(given[1:])
        return array_of(element) if element else None
    modifier = _MODIFIER.match(given)
    if modifier is None:
        return _BY_ALIAS.get(given)
    base, first, second, rest = modifier.groups()
    row = _BY_ALIAS.get(f"{base} {rest}".strip())
    return _with_modifier(row, int(first), int(second or 0)) if row else None


def _with_modifier(row: Type, first: int, second: int) -> Type | None:
    if row.name in ("varchar", "bpchar"):
        write = values.limited_text(first)
        return replace(row, native=f"{row.native}({first})", writer=write)
    if row.name == "numeric" and 1 <= first <= 38 and second <= first:
        write = partial(values.numeric, precision=first, scale=second)
        return replace(row, native=f"numeric({first},{second})", writer=write)
    return row if row.name in ("time", "timestamp", "timestamptz") and first <= 6 else None


def of_column(bq_type: str, repeated: bool, ckan_name: str | None) -> Type:
    """The type of a stored column, by what its description says or else by BigQuery's type."""
    bq_type = LEGACY_NAMES.get(bq_type, bq_type)
    if repeated:
        element = _FOREIGN.get(bq_type, _FOREIGN["STRUCT"])
        return replace(
            _FOREIGN["STRUCT"], name=f"_{element.name}", native=f"{element.native}[]", bq="ARRAY"
        )
    known = of_name(ckan_name) if ckan_name else None
    if known is not None and known.bq == bq_type:
        return known
    return _FOREIGN.get(bq_type, _FOREIGN["STRUCT"])


def export_text(type_: Type, sql: str, milliseconds: bool = True) -> str:
    """SQL for the STRING that core's CSV dump has for a value, NULL for an empty cell.

    ``milliseconds`` is core's option ``ckan.datastore.ms_in_timestamp``.
    """
    if type_.name == "timestamp" and not milliseconds:
        return _formatted("FORMAT_DATETIME", "%E4Y-%m-%dT%H:%M:%S")(sql)
    return type_.export(sql)


def read(type_: Type, value: Any, milliseconds: bool = True) -> Json:
    """A value of the client library as core's JSON API gives it."""
    if value is None:
        return None
    if type_.name == "timestamp":
        return _read_timestamp(value, milliseconds)
    return type_.read(value)


def csv_text(type_: Type, value: Any, milliseconds: bool = True) -> str | None:
    """A value of the client library as core's CSV has it; None is an empty cell."""
    if value is None:
        return "null" if type_.document else None
    if type_.name == "timestamp":
        return _read_timestamp(value, milliseconds)
    return type_.csv(value)


_DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
)


def guess(value: Any) -> str:
    """The type of a column that was not given one, from its first value, as core guesses."""
    if isinstance(value, (dict, list)):
        return "nested"
    if isinstance(value, int):  # also a bool, as in core
        return "int"
    if isinstance(value, float):
        return "float"
    for convert, name in ((int, "integer"), (float, "numeric")):
        try:
            convert(value)
            return name
        except (TypeError, ValueError):
            continue
    for pattern in _DATE_FORMATS:
        try:
            datetime.datetime.strptime(value, pattern)
            return "timestamp"
        except (TypeError, ValueError):
            continue
    return "text"
