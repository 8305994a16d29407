"""Floats in filters and in an order by PostgreSQL's rule: NaN equals itself, above all others.

To BigQuery nothing is NaN, and every comparison with it is false; in an order it is below all.
https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#floating_point_types
Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ckanext.bigquery_datastore.backend.table.model import Column

#: What a comparison of a column with NaN is in BigQuery: where the column has NaN, and where not.
_WITH_NAN = {
    "eq": "IS_NAN({})",
    "gt": "FALSE",
    "gte": "IS_NAN({})",
    "lt": "NOT IS_NAN({})",
    "lte": "{} IS NOT NULL",
}
#: The same for a number that has no NaN.
_WITHOUT_NAN = {
    **dict.fromkeys(("eq", "gt", "gte"), "FALSE"),
    **dict.fromkeys(("lt", "lte"), "{} IS NOT NULL"),
}


def is_nan(column: Column, value: Any) -> bool:
    """Whether a column is compared with NaN: as a number, or as a text where it may be one."""
    if isinstance(value, float):
        return column.type.is_number and math.isnan(value)
    is_text_of_number = isinstance(value, str) and column.bq_type != "INT64"
    return column.type.is_number and is_text_of_number and value.strip().lower() == "nan"


def compared_to_nan(column: Column, sql: str, op: str) -> str:
    """The condition that a column (``sql``) is equal to NaN, or below it …"""
    rows = _WITH_NAN if column.bq_type == "FLOAT64" else _WITHOUT_NAN
    return rows[op].replace("{}", sql)


def compared(column: Column, sql: str, op: str, condition: str) -> str:
    """The condition with a number that is none, NaN among what is above every number."""
    if column.bq_type != "FLOAT64" or op not in ("gt", "gte"):
        return condition
    return f"({condition} OR IS_NAN({sql}))"


def sorted_before(column: Column, sql: str) -> Sequence[str]:
    """What an order looks at before the value itself."""
    return [f"IS_NAN({sql})"] if column.bq_type == "FLOAT64" else []
