"""BigQuery's types as GoogleSQL writes them."""

from __future__ import annotations

from collections.abc import Iterable

from zetasql.wasi._pb2.zetasql.public import type_pb2

# Names of BigQuery's API and DDL that GoogleSQL has under another one.
_OTHER_NAMES = {
    "INTEGER": "INT64",
    "FLOAT": "DOUBLE",
    "FLOAT64": "DOUBLE",
    "BOOLEAN": "BOOL",
    "DECIMAL": "NUMERIC",
    "BIGDECIMAL": "BIGNUMERIC",
}


def type_of(name: str) -> type_pb2.TypeProto:
    """The type without parts that BigQuery calls ``name``."""
    kind = _OTHER_NAMES.get(name.upper(), name.upper())
    return type_pb2.TypeProto(type_kind=f"TYPE_{kind}")


def array_of(element: type_pb2.TypeProto) -> type_pb2.TypeProto:
    """ARRAY<element>."""
    return type_pb2.TypeProto(
        type_kind=type_pb2.TYPE_ARRAY, array_type=type_pb2.ArrayTypeProto(element_type=element)
    )


def range_of(element: type_pb2.TypeProto) -> type_pb2.TypeProto:
    """RANGE<element>."""
    return type_pb2.TypeProto(
        type_kind=type_pb2.TYPE_RANGE, range_type=type_pb2.RangeTypeProto(element_type=element)
    )


def struct_of(fields: Iterable[tuple[str, type_pb2.TypeProto]]) -> type_pb2.TypeProto:
    """STRUCT<fields>."""
    found = type_pb2.TypeProto(type_kind=type_pb2.TYPE_STRUCT)
    found.struct_type.SetInParent()
    for name, kind in fields:
        found.struct_type.field.add(field_name=name, field_type=kind)
    return found
