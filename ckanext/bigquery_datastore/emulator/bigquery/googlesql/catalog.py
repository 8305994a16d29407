"""Tables and parameters of BigQuery's API as GoogleSQL's analyzer wants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bqemulator.catalog.models import TableFieldSchema
from zetasql.wasi._pb2.zetasql.proto import options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as public_pb2
from zetasql.wasi._pb2.zetasql.public import type_pb2

from .functions import declared
from .types import array_of, range_of, struct_of, type_of

# A table by the path that a statement has for it: ("p", "d", "t") and ("p.d.t",) are two.
Tables = Mapping[tuple[str, ...], Sequence[TableFieldSchema]]


def empty_catalog(
    language: options_pb2.LanguageOptionsProto,
) -> simple_catalog_pb2.SimpleCatalogProto:
    """GoogleSQL's own functions and those that are declared here; no table."""
    catalog = simple_catalog_pb2.SimpleCatalogProto(name="bigquery")
    catalog.builtin_function_options.language_options.CopyFrom(language)
    catalog.custom_function.extend(declared())
    return catalog


def add_tables(catalog: simple_catalog_pb2.SimpleCatalogProto, tables: Tables) -> None:
    """Put each table where its path leads."""
    rooms: dict[tuple[str, ...], simple_catalog_pb2.SimpleCatalogProto] = {(): catalog}
    for path, fields in tables.items():
        for end in range(1, len(path)):
            if path[:end] not in rooms:
                room = rooms[path[: end - 1]].catalog.add()
                room.name = path[end - 1]
                rooms[path[:end]] = room
        table = rooms[path[:-1]].table.add()
        table.name = ".".join(path)
        table.name_in_catalog = path[-1]
        for field in fields:
            table.column.add(name=field.name, type=_column(field), is_writable_column=True)


def _column(field: TableFieldSchema) -> type_pb2.TypeProto:
    if field.type.upper() in ("RECORD", "STRUCT"):
        kind = struct_of((part.name, _column(part)) for part in field.fields)
    elif field.type.upper() == "RANGE":
        element = field.range_element_type
        kind = range_of(type_of(element.type if element else "DATE"))
    else:
        kind = type_of(field.type)
    return array_of(kind) if field.mode == "REPEATED" else kind


def add_parameters(
    options: options_pb2.AnalyzerOptionsProto, given: Iterable[Mapping[str, Any]]
) -> None:
    """Declare a request's ``queryParameters``: by name, or by place where they have none."""
    for parameter in given:
        kind = _parameter(parameter["parameterType"])
        if parameter.get("name"):
            options.query_parameters.add(name=parameter["name"], type=kind)
        else:
            options.parameter_mode = public_pb2.PARAMETER_POSITIONAL
            options.positional_query_parameters.append(kind)


def _parameter(kind: Mapping[str, Any]) -> type_pb2.TypeProto:
    name = str(kind["type"]).upper()
    if name == "ARRAY":
        return array_of(_parameter(kind["arrayType"]))
    if name == "STRUCT":
        parts = kind.get("structTypes") or ()
        return struct_of((part.get("name", ""), _parameter(part["type"])) for part in parts)
    if name == "RANGE":
        return range_of(_parameter(kind["rangeElementType"]))
    return type_of(name)
