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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ckanext.bigquery_datastore.backend.table import conversion, given, googlesql, reading, values
from ckanext.bigquery_datastore.backend.table.conversion import SqlOf
from ckanext.bigquery_datastore.backend.table.reading import Json
from ckanext.bigquery_datastore.backend.table.values import BadValue as BadValue

_AS_STRING = conversion.cast("STRING")


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
    read: Callable[[Any], Json] = field(default=reading.same, compare=False)
    csv: Callable[[Any], str] = field(default=reading.text_of, compare=False)
    from_text: SqlOf = field(default=conversion.as_is, compare=False)
    export: SqlOf = field(default=conversion.as_is, compare=False)
    aliases: tuple[str, ...] = ()
    element: str | None = None
    document: bool = False  # JSON in a STRING; core's text formats write NULL as ``null``

    def write(self, value: Any) -> str:
        """The text of a client's value.

        :raises BadValue: it is none of this type, whatever it is
        """
        try:
            return self.writer(given.plain(value, self.bq))
        except BadValue:
            raise
        except TypeError as err:
            raise BadValue(f"a value for type {self.native} cannot be written as JSON") from err
        except (ValueError, ArithmeticError, RecursionError) as err:
            # Such as a number of 5,000 digits, or a time zone that does not exist.
            raise BadValue(f"value out of range for type {self.native}") from err

    @property
    def holds_json(self) -> bool:
        """Whether its values are JSON documents, whatever BigQuery keeps them in."""
        return self.read is reading.document

    @property
    def is_number(self) -> bool:
        return self.bq in ("INT64", "FLOAT64", "NUMERIC", "BIGNUMERIC")


def _integer(name: str, native: str, bits: int, *aliases: str) -> Type:
    write = partial(values.integer, type_name=native, bits=bits)
    cast = conversion.cast("INT64")
    return Type(
        name,
        native,
        "INT64",
        write,
        from_text=cast,
        export=_AS_STRING,
        aliases=aliases,
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
        read=reading.number,
        csv=values.plain_number,
        from_text=lambda sql: f"PARSE_NUMERIC({sql})",
        export=_AS_STRING,
        aliases=("decimal",),
    ),
    Type(
        "float8",
        "double precision",
        "FLOAT64",
        values.floating,
        read=reading.number,
        csv=reading.float_text,
        from_text=conversion.cast("FLOAT64"),
        export=conversion.float_text,
        aliases=("float", "double precision"),
    ),
    Type(
        "float4",
        "real",
        "FLOAT64",
        values.floating,
        read=reading.number,
        csv=reading.float_text,
        from_text=conversion.cast("FLOAT64"),
        export=conversion.float_text,
        aliases=("real",),
    ),
    Type(
        "bool",
        "boolean",
        "BOOL",
        values.boolean,
        csv=reading.text_of_bool,
        from_text=conversion.cast("BOOL"),
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
        from_text=conversion.cast("DATE"),
        export=_AS_STRING,
    ),
    Type(
        "time",
        "time without time zone",
        "TIME",
        values.time,
        read=reading.time,
        csv=reading.time,
        from_text=conversion.cast("TIME"),
        export=conversion.formatted("FORMAT_TIME", "%H:%M:%E*S"),
        aliases=("time without time zone",),
    ),
    Type(
        "timestamp",
        "timestamp without time zone",
        "DATETIME",
        values.timestamp,
        read=reading.timestamp,
        csv=reading.timestamp,
        from_text=conversion.cast("DATETIME"),
        export=conversion.formatted("FORMAT_DATETIME", "%E4Y-%m-%dT%H:%M:%E3S"),
        aliases=("timestamp without time zone",),
    ),
    Type(
        "timestamptz",
        "timestamp with time zone",
        "TIMESTAMP",
        values.timestamptz,
        read=reading.timestamptz,
        csv=lambda value: reading.timestamptz(value).replace("T", " ").removesuffix(":00"),
        from_text=conversion.cast("TIMESTAMP"),
        export=conversion.formatted("FORMAT_TIMESTAMP", "%E4Y-%m-%d %H:%M:%E*S+00"),
        aliases=("timestamp with time zone",),
    ),
    # Core turns ``json`` into its own type ``nested``, and back again for the client.
    Type(
        "nested",
        "nested",
        "STRING",
        values.nested,
        read=reading.document,
        export=conversion.document,
        aliases=("json",),
        document=True,
    ),
    Type(
        "jsonb",
        "jsonb",
        "STRING",
        values.jsonb_text,
        read=reading.document,
        csv=reading.text_of_json,
    ),
)

TYPES: Mapping[str, Type] = {row.name: row for row in _ROWS}
BY_ALIAS = {alias: row for row in _ROWS for alias in (row.name, *row.aliases)}


def _refuse(value: Any) -> str:
    raise values.BadValue('column "{column}" is of a type that the DataStore cannot write')


#: Columns of tables that CKAN did not make: BigQuery's type -> the row to show and export.
FOREIGN: Mapping[str, Type] = {
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
        writer=values.native_json,
        csv=googlesql.document,
        from_text=conversion.parse_json,
        export=conversion.json_text,
    ),
    "BYTES": Type(
        "bytea",
        "bytea",
        "BYTES",
        _refuse,
        read=reading.base64_text,
        csv=reading.base64_text,
        export=lambda sql: f"TO_BASE64({sql})",
    ),
    "GEOGRAPHY": Type(
        "geography",
        "geography",
        "GEOGRAPHY",
        _refuse,
        read=reading.foreign,
        export=lambda sql: f"ST_ASTEXT({sql})",
    ),
    "INTERVAL": Type(
        "interval",
        "interval",
        "INTERVAL",
        _refuse,
        read=googlesql.interval,
        csv=googlesql.interval,
        export=_AS_STRING,
    ),
    "RANGE": Type(
        "range",
        "range",
        "RANGE",
        _refuse,
        read=googlesql.range_,
        csv=googlesql.range_,
        export=_AS_STRING,
    ),
    "STRUCT": Type(
        "nested",
        "nested",
        "STRUCT",
        _refuse,
        read=reading.foreign,
        csv=googlesql.to_json,
        export=conversion.json_text,
    ),
}


def export_text(type_: Type, sql: str, milliseconds: bool = True) -> str:
    """SQL for the STRING that core's CSV dump has for a value, NULL for an empty cell.

    ``milliseconds`` is core's option ``ckan.datastore.ms_in_timestamp``.
    """
    if type_.name == "timestamp" and not milliseconds:
        return conversion.formatted("FORMAT_DATETIME", "%E4Y-%m-%dT%H:%M:%S")(sql)
    return type_.export(sql)


def read(type_: Type, value: Any, milliseconds: bool = True) -> Json:
    """A value of the client library as core's JSON API gives it."""
    if value is None:
        return None
    if type_.name == "timestamp":
        return reading.timestamp(value, milliseconds)
    return type_.read(value)


def csv_text(type_: Type, value: Any, milliseconds: bool = True) -> str | None:
    """A value of the client library as core's CSV has it; None is an empty cell."""
    if value is None:
        return "null" if type_.document else None
    if type_.name == "timestamp":
        return reading.timestamp(value, milliseconds)
    return type_.csv(value)
