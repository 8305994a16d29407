"""Floats in filters and in an order: PostgreSQL's rows, by GoogleSQL's own evaluator."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from ckanext.bigquery_datastore.backend.search.build import build
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.model import Column, Table
from ckanext.bigquery_datastore.tests.evaluated import evaluate

TABLE = Table(
    "p",
    "d",
    "t",
    (Column("_id", types.TYPES["int8"], "_id"), Column("f", types.TYPES["float8"], "f")),
)
VALUES = (1.5, math.nan, None, -math.inf, math.inf, -0.0, 0.0, math.nan, -2.0)
ROWS = "(SELECT _id + 1 AS _id, f FROM UNNEST([{}]) AS f WITH OFFSET AS _id)".format(
    ", ".join("NULL" if v is None else f"CAST('{v!r}' AS FLOAT64)" for v in VALUES)
)


def found(**params: Any) -> list[int]:
    """The places of the rows that a search finds."""
    select = build(TABLE, {"fields": "_id", **params})
    rows = evaluate(select.sql().replace("`p.d.t`", ROWS), select.parameters)
    return [number for (number,) in rows]


def rank(value: float) -> tuple[bool, float]:
    """PostgreSQL's order: NaN equals itself and is above all others."""
    return math.isnan(value), 0 if math.isnan(value) else value


COMPARISONS = {
    "eq": lambda a, b: a == b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}
OPERANDS = ("NaN", math.nan, "Infinity", "-inf", 0, 1.5)


@pytest.mark.parametrize(("op", "operand"), itertools.product(COMPARISONS, OPERANDS))
def test_a_filter_finds_what_postgresql_finds(op: str, operand: Any) -> None:
    expected = [
        place
        for place, value in enumerate(VALUES, 1)
        if value is not None and COMPARISONS[op](rank(value), rank(float(operand)))
    ]
    assert found(filters={"f": {op: operand}}) == expected
    if op == "eq":
        assert found(filters={"f": operand}) == expected


def test_a_list_finds_nan_too() -> None:
    assert found(filters={"f": ["NaN", 1.5]}) == [1, 2, 8]
    assert found(filters={"f": ["nan"]}) == [2, 8]
    assert found(filters={"f": [-2, None]}) == [9]


def test_nan_is_above_all_numbers_and_below_null() -> None:
    assert found(sort="f") == [4, 9, 6, 7, 1, 5, 2, 8, 3]
    assert found(sort="f desc") == [3, 2, 8, 5, 1, 6, 7, 9, 4]
    assert found(sort="f desc nulls last, _id desc") == [8, 2, 5, 1, 7, 6, 9, 4, 3]


def test_distinct_rows_have_nan_once_and_in_its_place() -> None:
    select = build(TABLE, {"fields": "f", "distinct": True, "sort": "f"})
    rows = evaluate(select.sql().replace("`p.d.t`", ROWS))
    texts = [str(value).replace("-0.0", "0.0") for (value,) in rows]
    assert texts == ["-inf", "-2.0", "0.0", "1.5", "inf", "nan", "None"]
    assert evaluate(select.count_sql().replace("`p.d.t`", ROWS)) == [(7,)]


@pytest.mark.parametrize("op", ["gt", "lt"])
def test_a_number_that_cannot_be_nan_is_below_it(op: str) -> None:
    table = Table("p", "d", "t", (Column("n", types.TYPES["numeric"], "n"),))
    select = build(table, {"filters": {"n": {op: "NaN"}}})
    assert select.where == ("FALSE" if op == "gt" else "t.`n` IS NOT NULL",)
    assert not select.parameters
