"""A value as BigQuery's exports write it, by type, as DuckDB SQL.

Each function takes the SQL of a value and gives SQL of a text: rows become bytes
inside DuckDB, and Python only moves buffers. The forms come from BigQuery's export
documentation and from recorded files: TIMESTAMP as ``2014-11-10 13:12:06.5 UTC``,
BYTES as base64, INT64 and NUMERIC as strings in JSON, ``<``, ``>`` and ``&`` escaped
there, NULL as nothing. What no source states (FLOAT64, DATETIME, INTERVAL, RANGE)
is a plausible form, not a promise.
"""

from __future__ import annotations

from dataclasses import dataclass

from duckdb.sqltypes import DuckDBPyType

from .engine import quote_name, quote_text

_PLAIN = {"bigint", "integer", "smallint", "tinyint", "hugeint", "ubigint", "uinteger"}


@dataclass(frozen=True)
class Kind:
    """A type of DuckDB, cut down to what an export distinguishes."""

    name: str  # int float bool text json bytes numeric date time datetime timestamp interval
    # geography range struct list
    parts: tuple[tuple[str, Kind], ...] = ()

    @classmethod
    def of(cls, found: DuckDBPyType) -> Kind:
        """The kind of a DuckDB type."""
        text, identity = str(found).upper(), found.id
        if identity in ("list", "array"):
            return cls("list", (("element", cls.of(_part(found, 0)[1])),))
        if identity == "struct":
            members = (_part(found, index) for index in range(len(found.children)))
            parts = tuple((name, cls.of(kind)) for name, kind in members)
            is_range = [name for name, _ in parts] == ["start", "end"]
            return cls("range" if is_range else "struct", parts)
        if text == "JSON":
            return cls("json")
        if text.startswith("GEOMETRY"):
            return cls("geography")
        if identity in _PLAIN:
            return cls("int")
        return cls(_NAMES.get(identity, "text"))

    @property
    def nested(self) -> bool:
        """Whether CSV cannot hold it."""
        return self.name in ("list", "struct")


def _part(found: DuckDBPyType, index: int) -> tuple[str, DuckDBPyType]:
    """Name and type of a member of a struct or list."""
    name, kind = found.children[index]
    assert isinstance(kind, DuckDBPyType)
    return name, kind


_NAMES = {
    "double": "float",
    "float": "float",
    "boolean": "bool",
    "blob": "bytes",
    "decimal": "numeric",
    "date": "date",
    "time": "time",
    "timestamp": "datetime",
    "timestamp with time zone": "timestamp",
    "timestamp_tz": "timestamp",
    "interval": "interval",
}
_INTERVAL = (
    "(CASE WHEN datepart('year', {0}) * 12 + datepart('month', {0}) < 0 THEN '-' ELSE '' END"
    " || abs(datepart('year', {0})) || '-' || abs(datepart('month', {0}))"
    " || ' ' || datepart('day', {0}) || ' '"
    " || CASE WHEN datepart('hour', {0}) < 0 OR datepart('microsecond', {0}) < 0 THEN '-' ELSE ''"
    " END || abs(datepart('hour', {0})) || ':' || abs(datepart('minute', {0})) || ':'"
    " || rtrim(rtrim(printf('%d.%06d', abs(datepart('second', {0})),"
    " abs(datepart('microsecond', {0}) % 1000000)), '0'), '.'))"
)
_FORMS = {
    "text": "{0}",
    "json": "CAST({0} AS VARCHAR)",
    "bytes": "to_base64({0})",
    "numeric": "(CASE WHEN contains(CAST({0} AS VARCHAR), '.') "
    "THEN rtrim(rtrim(CAST({0} AS VARCHAR), '0'), '.') ELSE CAST({0} AS VARCHAR) END)",
    "float": "(CASE WHEN isnan({0}) THEN 'NaN' WHEN isinf({0}) THEN "
    "(CASE WHEN {0} > 0 THEN 'Infinity' ELSE '-Infinity' END) ELSE CAST({0} AS VARCHAR) END)",
    "datetime": "replace(CAST({0} AS VARCHAR), ' ', 'T')",
    "timestamp": "(CAST(make_timestamp(epoch_us({0})) AS VARCHAR) || ' UTC')",
    "geography": "regexp_replace(ST_AsText({0}), '([A-Z]) \\(', '\\1(', 'g')",
    "interval": _INTERVAL,
}
_MAY_NEED_QUOTES = {"text", "json", "geography", "range"}


def as_text(value: str, kind: Kind) -> str:
    """SQL of the value as text; NULL stays NULL."""
    if kind.name == "range":
        start, end = (
            f"coalesce({as_text(f'({value}).{quote_name(name)}', part)}, 'UNBOUNDED')"
            for name, part in kind.parts
        )
        return (
            f"(CASE WHEN {value} IS NULL THEN NULL ELSE '[' || {start} || ', ' || {end} || ')' END)"
        )
    return _FORMS.get(kind.name, "CAST({0} AS VARCHAR)").format(value)


def csv_line(columns: list[tuple[str, Kind]], delimiter: str) -> str:
    """SQL of one line of CSV, LF included. ``columns`` are SQL and kind."""
    cells = [_csv_cell(value, kind, delimiter) for value, kind in columns]
    separated = f", {quote_text(delimiter)}, ".join(cells)
    return f"concat({separated}, chr(10))"


def _csv_cell(value: str, kind: Kind, delimiter: str) -> str:
    text = as_text(value, kind)
    if kind.name not in _MAY_NEED_QUOTES and delimiter in (",", "\t", "|", ";"):
        return text
    unsafe = " OR ".join(
        f"contains({text}, {mark})"
        for mark in (quote_text(delimiter), "'\"'", "chr(10)", "chr(13)")
    )
    return (
        f"(CASE WHEN {text} = '' THEN '\"\"' WHEN {unsafe} "
        f"THEN '\"' || replace({text}, '\"', '\"\"') || '\"' ELSE {text} END)"
    )


def csv_header(names: list[str], delimiter: str) -> str:
    """The header line of CSV, LF included."""
    return (
        delimiter.join(
            f'"{name.replace(chr(34), chr(34) * 2)}"'
            if any(mark in name for mark in (delimiter, '"', "\n", "\r"))
            else name
            for name in names
        )
        + "\n"
    )


def json_line(columns: list[tuple[str, str, Kind]]) -> str:
    """SQL of one line of NDJSON, LF included. ``columns`` are name, SQL and kind."""
    return f"({_json_object(columns, 0)} || chr(10))"


def _json_object(columns: list[tuple[str, str, Kind]], depth: int) -> str:
    members = []
    for name, value, kind in columns:
        key = quote_text(f",{_json_string(name)}:")
        if kind.name == "list":
            # An array that is NULL is empty in BigQuery.
            members.append(f"{key} || {_json_value(value, kind, depth)}")
        else:
            json = _json_value(value, kind, depth)
            members.append(f"(CASE WHEN {value} IS NULL THEN '' ELSE {key} || {json} END)")
    return f"('{{' || substr(concat({', '.join(members) or quote_text('')}), 2) || '}}')"


def _json_value(value: str, kind: Kind, depth: int) -> str:
    if kind.name == "list":
        name, element = f"e{depth}", kind.parts[0][1]
        inner = f"coalesce({_json_value(name, element, depth + 1)}, 'null')"
        listed = f"array_to_string(list_transform({value}, lambda {name}: {inner}), ',')"
        return f"('[' || coalesce({listed}, '') || ']')"
    if kind.name == "struct":
        parts = [(n, f"({value}).{quote_name(n)}", k) for n, k in kind.parts]
        return _json_object(parts, depth)
    text = as_text(value, kind)
    if kind.name in ("bool", "json"):
        return text
    if kind.name == "float":
        return f"(CASE WHEN isfinite({value}) THEN {text} ELSE '\"' || {text} || '\"' END)"
    if kind.name in ("text", "geography", "range"):
        return _escaped(f"CAST(to_json({text}) AS VARCHAR)")
    return f"('\"' || {text} || '\"')"


def _escaped(text: str) -> str:
    for mark, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = f"replace({text}, '{mark}', '{code}')"
    return text


def _json_string(text: str) -> str:
    import json

    plain = json.dumps(text, ensure_ascii=False)
    for mark, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        plain = plain.replace(mark, code)
    return plain


def parquet_columns(columns: list[tuple[str, str, Kind]]) -> str:
    """SQL of a select list whose Arrow types are those of BigQuery's Parquet exports."""
    return ", ".join(
        f"{_parquet_value(value, kind)} AS {quote_name(name)}" for name, value, kind in columns
    )


def _parquet_value(value: str, kind: Kind, depth: int = 0) -> str:
    if kind.name == "timestamp":
        # TIMESTAMP(MICROS, isAdjustedToUTC=false), as BigQuery's documentation has it.
        return f"make_timestamp(epoch_us({value}))"
    if kind.name == "int":
        return f"CAST({value} AS BIGINT)"
    if kind.name == "json":
        return f"CAST({value} AS VARCHAR)"
    if kind.name == "geography":
        return f"ST_AsWKB({value})::BLOB"
    if kind.name in ("interval", "range"):
        return as_text(value, kind)
    if kind.name == "list":
        name = f"e{depth}"
        inner = _parquet_value(name, kind.parts[0][1], depth + 1)
        return f"list_transform({value}, lambda {name}: {inner})" if inner != name else value
    if kind.name == "struct":
        parts = ", ".join(
            f"{quote_name(n)} := {_parquet_value(f'({value}).{quote_name(n)}', k, depth)}"
            for n, k in kind.parts
        )
        return f"(CASE WHEN {value} IS NULL THEN NULL ELSE struct_pack({parts}) END)"
    return value
