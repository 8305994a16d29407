"""Partitions by ranges of a number, as the API and the statements of BigQuery have them.

bqemulator reads neither (https://cloud.google.com/bigquery/docs/creating-partitioned-tables#create_an_integer-range_partitioned_table).
Rows lie in DuckDB as in any table: ``billing`` alone looks at what partition they are in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlglot
from bqemulator.catalog.models import RangePartitioning, TableFieldSchema
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ..errors import ApiError
from .engine import TableName, quote_name

# https://cloud.google.com/bigquery/quotas#partitioned_tables
_MOST_PARTITIONS = 10_000
_MOST_AT_ONCE = 4_000  # that one job may write to: the same page


def of_rest(
    body: Mapping[str, Any] | None, fields: Sequence[TableFieldSchema]
) -> RangePartitioning | None:
    """``rangePartitioning`` of a request. Raise ApiError ``invalid`` where BigQuery refuses it."""
    if not body:
        return None
    ranges = body.get("range") or {}
    try:
        numbers = [int(ranges[name]) for name in ("start", "end", "interval")]
    except (KeyError, ValueError) as error:
        raise ApiError("invalid", "rangePartitioning.range has start, end, interval.") from error
    return _checked(str(body.get("field", "")), numbers, fields)


def as_rest(ranges: RangePartitioning) -> dict[str, Any]:
    """The same as answers show it."""
    numbers = {name: str(getattr(ranges, name)) for name in ("start", "end", "interval")}
    return {"field": ranges.field, "range": numbers}


def of_ddl(
    tree: sqlglot.exp.Expression,  # type: ignore[attr-defined,name-defined]
    fields: Sequence[TableFieldSchema],
) -> RangePartitioning | None:
    """``PARTITION BY RANGE_BUCKET(column, GENERATE_ARRAY(start, end[, interval]))``."""
    found = tree.find(exp.PartitionedByProperty)
    if found is None or not isinstance(found.this, exp.RangeBucket):
        return None
    bucket, array = found.this, found.this.expression
    try:
        ends = [int(array.args[name].sql()) for name in ("start", "end")]
        interval = int(array.args["step"].sql()) if array.args.get("step") else 1
    except (AttributeError, KeyError, ValueError) as error:
        raise ApiError(
            "invalidQuery",
            "PARTITION BY RANGE_BUCKET needs GENERATE_ARRAY of constants.",
            location="query",
        ) from error
    return _checked(bucket.this.name, [*ends, interval], fields)


def bucket_of(ranges: RangePartitioning) -> str:
    """SQL (DuckDB) for the lowest number of a row's partition; NULL where it is in none."""
    number = quote_name(ranges.field)
    return (
        f"CASE WHEN {number} >= {ranges.start} AND {number} < {ranges.end} THEN {number} - "
        f"({number} - {ranges.start}) % {ranges.interval} END"
    )


def check_written(count: int) -> None:
    """Raise ApiError where a job has written to more partitions than one job may."""
    if count > _MOST_AT_ONCE:
        raise ApiError(
            "invalidQuery",
            f"Too many partitions produced by query, allowed {_MOST_AT_ONCE}, query produces at "
            f"least {count} partitions",
            location="query",
        )


def of_created(sql: str) -> sqlglot.exp.Create | None:
    """The CREATE TABLE statement that a text is."""
    try:
        tree = sqlglot.parse_one(sql, read="bigquery")
    except SqlglotError:
        return None
    is_table = isinstance(tree, exp.Create) and tree.args.get("kind") == "TABLE"
    return tree if is_table and isinstance(tree, exp.Create) else None


def target_of(tree: sqlglot.exp.Create, project: str) -> TableName:
    """The table that it makes."""
    table = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    return TableName(table.catalog or project, table.db, table.name)


def _checked(
    column: str, numbers: Sequence[int], fields: Sequence[TableFieldSchema]
) -> RangePartitioning:
    kinds = {field.name.lower(): field.type for field in fields if field.mode != "REPEATED"}
    if kinds.get(column.lower()) not in ("INTEGER", "INT64"):
        raise ApiError("invalid", f"The field {column!r} of rangePartitioning is no INTEGER.")
    start, end, interval = numbers
    if start >= end or interval <= 0:
        raise ApiError("invalid", "rangePartitioning: start < end and interval > 0 are needed.")
    if -(-(end - start) // interval) > _MOST_PARTITIONS:
        raise ApiError("invalid", f"A table has {_MOST_PARTITIONS:,} partitions at most.")
    return RangePartitioning(field=column, start=start, end=end, interval=interval)
