"""The columns of a file: their types, how BigQuery reads them, how they get into the table. Pure.

A column that the table has already keeps its type: a code of digits that was loaded as text once
stays a text. What cannot be read so is refused, and ``--type`` gives another type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from google.cloud import bigquery

from ckanext.bigquery_datastore.backend.table import naming
from ckanext.bigquery_datastore.backend.table.conversion import parse_json
from ckanext.bigquery_datastore.backend.table.model import ID, Column, Table, quote_name
from ckanext.bigquery_datastore.backend.table.naming import LEGACY_NAMES
from ckanext.bigquery_datastore.backend.table.types import TYPES, Type
from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load import texts
from ckanext.bigquery_datastore.load.files import LINE, PLACE, ROW, Met, place

# What a column of a Parquet file may become without a loss, where the table has another type.
_WITHOUT_LOSS = {("TIMESTAMP", "DATETIME"), ("DATETIME", "TIMESTAMP"), ("INT64", "NUMERIC")}


@dataclass(frozen=True)
class Staged:
    """A column between the file and the table.

    ``stored`` is its name where the file was loaded, ``loaded`` BigQuery's type there, ARRAY for
    a repeated one; ``type`` is its type in the table to be. ``is_text``: it was loaded as it stands
    in the file; ``day_first``: its dates begin with the day.
    """

    name: str
    stored: str
    loaded: str
    type: Type
    is_text: bool = False
    day_first: bool = False

    @property
    def sql(self) -> str:
        """The value that belongs into the table."""
        if self.is_text:
            return texts.value(self.stored, self.type, self.day_first)
        column = quote_name(self.stored)
        if self.type.holds_json and self.type.bq == "STRING":
            # Parsed, so that nothing that is not JSON comes into the table.
            parsed = parse_json(column) if self.loaded == "STRING" else column
            return f"IF({column} IS NULL, NULL, TO_JSON_STRING({parsed}))"
        return column if self.loaded == self.type.bq else f"CAST({column} AS {self.type.bq})"


def name_of(type_: Type) -> str:
    """A name that ``naming.of_name`` finds the type by; the native one also tells varchar(20)."""
    is_plain = type_.element or TYPES.get(type_.name) == type_
    return type_.name if is_plain else type_.native


def known_types(
    names: Sequence[str], given: Mapping[str, Type], table: Table | None
) -> dict[str, Type]:
    """The types that need not be inferred: those asked for, else those that the table has.

    :raises BadRequest: a type is given for a column that is not there
    """
    unknown = set(given) - set(names)
    if unknown:
        raise BadRequest(f"The file has no column {', '.join(sorted(unknown))}.")
    columns = table.user_columns if table else ()
    had = {c.name: c.type for c in columns if c.type.bq not in ("STRUCT", "ARRAY")}
    known = {**had, **given, ID: TYPES["text"]}
    return {name: known[name] for name in names if name in known}


def of_texts(names: Sequence[str]) -> list[Staged]:
    """The columns of a CSV file, as they are to be loaded: under their places, as texts."""
    return [
        Staged(name, place(number).decode(), "STRING", TYPES["text"], is_text=True)
        for number, name in enumerate(names)
    ]


def of_objects(met: Met, known: Mapping[str, Type]) -> list[Staged]:
    """The columns of an NDJSON file, as they are to be loaded."""
    found = []
    for name in met.names:
        type_ = known.get(name) or _type_of_kinds(met.kinds[name])
        # As JSON, nested values of any shape are read, and texts are checked.
        loaded = "JSON" if type_.holds_json else type_.bq
        found.append(Staged(name, name, loaded, type_))
    return found


_SCALARS = {
    "integer": "int8",
    "large": "numeric",
    "number": "float8",
    "boolean": "bool",
    "string": "text",
}


def _type_of_kinds(kinds: Set[str]) -> Type:
    """The type that keeps all JSON values of a column: a string stays one, whatever is in it."""
    if any(kind.startswith("[") or kind == "object" for kind in kinds):
        if not all(kind.startswith("[") for kind in kinds):
            return TYPES["nested"]
        inner = {kind[1:-1] for kind in kinds} - {"", "null"}
        element = _scalar(inner) if inner <= set(_SCALARS) else None
        return (naming.of_name(f"_{element}") if element else None) or TYPES["nested"]
    return TYPES[_scalar(kinds - {"null"}) or "text"]


def _scalar(kinds: Set[str]) -> str | None:
    """The type of such values; None where no type but text keeps them all apart."""
    if kinds == {"integer", "number"}:
        return "float8"
    if kinds == {"integer", "large"}:
        return "numeric"
    return _SCALARS[next(iter(kinds))] if len(kinds) == 1 else None


def schema(columns: Sequence[Staged], *, has_lines: bool) -> list[bigquery.SchemaField]:
    """How BigQuery is told to read the numbered rows."""
    return [
        bigquery.SchemaField(ROW, "INT64"),
        *([bigquery.SchemaField(LINE, "INT64")] if has_lines else []),
        *(bigquery.SchemaField(column.stored, column.loaded) for column in columns),
    ]


def converted(
    fields: Sequence[bigquery.SchemaField], given: Mapping[str, Type], table: Table | None
) -> list[Staged]:
    """The columns of a Parquet file, which tells their types itself.

    A column keeps the type that the table has where the file's values go into it as they are.
    """
    found = []
    for field in fields:
        loaded = "ARRAY" if field.mode == "REPEATED" else _bq_type(field)
        column = table.column(field.name) if table else None
        type_ = given.get(field.name) or (
            column.type if column and _fits(loaded, column.type) else inferred_type(field)
        )
        found.append(Staged(field.name, field.name, loaded, type_))
    return found


def _fits(loaded: str, type_: Type) -> bool:
    if type_.bq in ("STRUCT", "ARRAY"):
        return False
    if loaded in ("STRUCT", "ARRAY", "JSON"):
        return loaded == type_.bq or (type_.holds_json and type_.bq == "STRING")
    return loaded == type_.bq or (loaded, type_.bq) in _WITHOUT_LOSS


def inferred_type(field: bigquery.SchemaField) -> Type:
    """The DataStore's type for a column of BigQuery's: one that can be written, if there is one."""
    bq_type = _bq_type(field)
    if bq_type == "STRUCT":
        return TYPES["nested"]
    element = naming.of_column(bq_type, False, None)
    if field.mode == "REPEATED":
        return naming.of_name(f"_{element.name}") or TYPES["nested"]
    return TYPES["jsonb"] if bq_type == "JSON" else element


def _bq_type(field: bigquery.SchemaField) -> str:
    return LEGACY_NAMES.get(field.field_type, field.field_type)


def values(columns: Sequence[Column], staged: Sequence[Staged], number: str) -> list[str]:
    """SQL for the values of a table's columns in a row of the table beside; ``number`` is
    ``_id``'s. A column that the file has not is NULL."""
    by_name = {column.name: column for column in staged}
    return [
        number
        if column.name == ID
        else by_name[column.name].sql
        if column.name in by_name
        else f"CAST(NULL AS {column.bq_type})"
        for column in columns
    ]


def select(
    columns: Sequence[Column], source: str, staged: Sequence[Staged], number: str, rejects: str = ""
) -> str:
    """The query for a table's rows, its columns in their order."""
    pairs = zip(values(columns, staged, number), columns, strict=True)
    told = ", ".join(f"{sql} AS {column.sql}" for sql, column in pairs)
    return f"SELECT {told} FROM {source}" + (f" WHERE NOT ({rejects})" if rejects else "")


def in_words(message: str, names: Sequence[str]) -> str:
    """What BigQuery says of columns by their places, with their names."""
    for number in range(len(names), 0, -1):
        message = message.replace(f"{PLACE}{number}", names[number - 1])
    return message
