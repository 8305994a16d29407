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

_format = arrow_bridge._format_bq_value
_type = executor._resolve_bq_type
_alias = row_access_filter._Rewriter._alias_for_node


def install() -> None:
    """Put our forms before bqemulator's."""
    arrow_bridge._format_bq_value = _formatted
    executor._resolve_bq_type = _named
    row_access_filter._Rewriter._alias_for_node = staticmethod(_quoted_alias)  # type: ignore[method-assign]


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


def _quoted_alias(node: Any, *, default: str) -> str:
    """The name of a view in the query that stands for it there: many are no bare words."""
    name = _alias(node, default=default)
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"`{name}`"
