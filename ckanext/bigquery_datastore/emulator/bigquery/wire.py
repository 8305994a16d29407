"""Values and types in answers, where bqemulator's differ from BigQuery's.

NUMERIC without trailing zeros, GEOGRAPHY as ``POINT(1 2)``, and GEOGRAPHY columns of a
query's result called that and not BYTES.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
from bqemulator.jobs import executor
from bqemulator.sql.rewriter import row_access_filter
from bqemulator.storage import arrow_bridge
from sqlglot import exp

_format = arrow_bridge._format_bq_value
_type = executor._resolve_bq_type
_expand = row_access_filter._Rewriter._expand_view


def install() -> None:
    """Put our forms before bqemulator's."""
    arrow_bridge._format_bq_value = _formatted
    executor._resolve_bq_type = _named
    row_access_filter._Rewriter._expand_view = _expanded  # type: ignore[method-assign]


def _formatted(value: Any, arrow_type: pa.DataType, *, field: pa.Field | None = None) -> Any:
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    found = _format(value, arrow_type, field=field)
    if isinstance(found, str) and field is not None and _is_geography(field):
        return re.sub(r"([A-Z]) \(", r"\1(", found)
    return found


def _named(field: pa.Field, inner_type: pa.DataType) -> str:
    return "GEOGRAPHY" if _is_geography(field) else _type(field, inner_type)


def _is_geography(field: pa.Field) -> bool:
    kind = (field.metadata or {}).get(b"bqemu.duckdb_type", b"")
    return bool(kind.upper().startswith(b"GEOMETRY"))


def _expanded(self: Any, node: exp.Table, **parts: Any) -> bool:
    """A view by its query, under its own name: many of these are no bare words."""
    parent, key, place = node.parent, node.arg_key, node.index
    is_done = _expand(self, node, **parts)
    if is_done and parent is not None and key is not None:
        found = parent.args[key]
        (found if place is None else found[place]).args["alias"].this.set("quoted", True)
    return is_done
