"""What the emulator makes of a value is what GoogleSQL's own evaluator makes of it."""

from __future__ import annotations

import pytest
from google.cloud import bigquery

from ckanext.bigquery_datastore.tests.evaluated import evaluate

from ..conftest import run

NAN, ZERO, INF = (f"CAST('{text}' AS FLOAT64)" for text in ("nan", "-0", "inf"))

EXPRESSIONS = (
    # Comparisons with NaN.
    *(f"(SELECT x {sign} y FROM (SELECT {NAN} AS x, {NAN} AS y))" for sign in ("=", "<>", "<=")),
    *(f"(SELECT x {sign} 1.5 FROM (SELECT {NAN} AS x))" for sign in ("=", "<>", "<", ">=")),
    *(f"(SELECT 1.5 {sign} x FROM (SELECT {NAN} AS x))" for sign in ("=", "<>", "<", ">=", ">")),
    f"(SELECT x IN (x, 1) FROM (SELECT {NAN} AS x))",
    f"(SELECT x BETWEEN 0 AND y FROM (SELECT 1.5 AS x, {NAN} AS y))",
    f"(SELECT NOT x > 1 FROM (SELECT {NAN} AS x))",
    f"(SELECT x > y FROM (SELECT {NAN} AS x, CAST(NULL AS FLOAT64) AS y))",
    f"(SELECT COUNT(DISTINCT x) FROM UNNEST([1, {NAN}, {NAN}, {ZERO}, 0]) AS x)",
)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_value_is_googlesqls(bq: bigquery.Client, expression: str) -> None:
    sql = f"SELECT {expression} AS found"
    assert [tuple(row) for row in run(bq, sql).result()] == evaluate(sql)


ROWS = f"UNNEST([2.5, {NAN}, NULL, -{INF}, {INF}, 0]) AS x WITH OFFSET AS n"


@pytest.mark.parametrize("order", [
    *("x", "x DESC", "x NULLS LAST", "x DESC NULLS FIRST", "1 DESC", "y", "x = 0, x", "-x", "s.y"),
])  # fmt: skip
def test_nan_has_googlesqls_place_in_an_order(bq: bigquery.Client, order: str) -> None:
    sql = f"SELECT CAST(y AS STRING) AS text FROM (SELECT x, x AS y FROM {ROWS}) AS s ORDER BY "
    sql += order if order not in ("1 DESC", "y") else {"1 DESC": "s.x DESC", "y": "y"}[order]
    assert [tuple(row) for row in run(bq, sql).result()] == evaluate(sql)


def test_a_column_and_a_place_in_the_result_are_sorted_by_as_its_value(bq: bigquery.Client) -> None:
    for order in ("y", "1", "2 DESC", "y DESC, n"):
        sql = f"SELECT x AS y, x AS z, n FROM {ROWS} ORDER BY {order}"
        assert repr([tuple(row) for row in run(bq, sql).result()]) == repr(evaluate(sql))


def test_a_column_of_a_table_is_compared_and_deleted_by_googlesqls_rule(
    bq: bigquery.Client, dataset: str
) -> None:
    name = f"local.{dataset}.t"
    run(bq, f"CREATE TABLE `{name}` (n INT64, f FLOAT64)")
    run(bq, f"INSERT `{name}` (n, f) SELECT n, x FROM {ROWS}")
    found = run(bq, f"SELECT t.n FROM `{name}` AS t WHERE t.f > 0 ORDER BY t.f, n").result()
    assert [row.n for row in found] == [0, 4]
    order = run(bq, f"SELECT n FROM `{name}` AS t ORDER BY t.f DESC").result()
    assert [row.n for row in order] == [4, 0, 5, 3, 1, 2]
    run(bq, f"DELETE FROM `{name}` AS t WHERE t.f >= 0")
    run(bq, f"UPDATE `{name}` AS t SET f = 7, n = 9 WHERE t.f = t.f")
    left = run(bq, f"SELECT n FROM `{name}` ORDER BY n").result()
    assert [row.n for row in left] == [1, 2, 9]
