"""How many bytes BigQuery would count for a value, a table, and tables that are read.

Sizes by type are those of BigQuery's page "Data type sizes": INT64 and FLOAT64 8,
BOOL 1, STRING and BYTES 2 + their bytes, NUMERIC 16, ... and NULL nothing.
"""

from __future__ import annotations

from bqemulator.catalog.models import TableFieldSchema

from .engine import quote_name

MEGABYTE = 1024 * 1024
MINIMUM_BILLED = 10 * MEGABYTE

_FIXED = {
    "INTEGER": 8,
    "INT64": 8,
    "FLOAT": 8,
    "FLOAT64": 8,
    "BOOLEAN": 1,
    "BOOL": 1,
    "DATE": 8,
    "TIME": 8,
    "DATETIME": 8,
    "TIMESTAMP": 8,
    "NUMERIC": 16,
    "BIGNUMERIC": 32,
    "INTERVAL": 16,
    "RANGE": 16,
}
_TEXT = {
    "STRING": "2 + strlen({0})",
    "JSON": "2 + strlen({0}::VARCHAR)",
    "BYTES": "2 + octet_length({0})",
    "GEOGRAPHY": "16 + 24 * ST_NPoints({0})",
}


def value_size(field: TableFieldSchema, value: str, depth: int = 0) -> str:
    """SQL (DuckDB) for the bytes of one value of ``field``; ``value`` is its SQL."""
    if field.mode == "REPEATED":
        element = field.model_copy(update={"mode": "NULLABLE"})
        name = f"e{depth}"
        inner = value_size(element, name, depth + 1)
        return f"coalesce(list_sum(list_transform({value}, lambda {name}: {inner})), 0)"
    if field.type in ("RECORD", "STRUCT"):
        parts = [value_size(f, f"({value}).{quote_name(f.name)}", depth) for f in field.fields]
        return f"({' + '.join(parts) or '0'})"
    if field.type in _FIXED:
        return f"(CASE WHEN {value} IS NULL THEN 0 ELSE {_FIXED[field.type]} END)"
    size = _TEXT.get(field.type, "2 + strlen({0}::VARCHAR)").format(value)
    return f"coalesce({size}, 0)"


def table_size(fields: tuple[TableFieldSchema, ...], table: str) -> str:
    """SQL (DuckDB) for one row: the rows and the bytes of ``table``."""
    total = " + ".join(f"coalesce(sum({value_size(f, quote_name(f.name))}), 0)" for f in fields)
    return f"SELECT count(*), {total or '0'} FROM {table}"


def billed(processed: list[int]) -> int:
    """Bytes billed for these bytes of tables: MB rounded up, 10 MB a table at least.

    Of a table that no byte is read of (COUNT(*)) nothing is billed.
    """
    return sum(max(MINIMUM_BILLED, -(-size // MEGABYTE) * MEGABYTE) for size in processed if size)
