"""What the emulator makes of a value is what GoogleSQL's own evaluator makes of it."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import BadRequest
from google.cloud import bigquery

from ckanext.bigquery_datastore.emulator.bigquery.googlesql.wasm import Refusal
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
    # Texts of floats, intervals, ranges.
    f"CONCAT(CAST({NAN} AS STRING), CAST({INF} AS STRING), CAST(-{INF} AS STRING))",
    f"CONCAT(CAST({ZERO} AS STRING), FORMAT('%.15g', {ZERO}), FORMAT('%.16e', {ZERO}))",
    "CAST(INTERVAL '1-2 3 4:5:6.5' YEAR TO SECOND AS STRING)",
    "CAST(INTERVAL '-0-10' YEAR TO MONTH AS STRING)",
    "CAST(INTERVAL '-1-10' YEAR TO MONTH AS STRING)",
    "CAST(INTERVAL -14706500001 MICROSECOND AS STRING)",
    "CAST(RANGE<TIMESTAMP> '[2024-01-01 00:00:00+00, UNBOUNDED)' AS STRING)",
    "CAST(RANGE<DATETIME> '[2024-01-01 00:00:00.5, 2024-01-02 00:00:00)' AS STRING)",
    # JSON: the order of members, numbers.
    *(
        f"TO_JSON_STRING(PARSE_JSON('{text}', wide_number_mode=>'round'))"
        for text in (
            '{"b": 1, "a": 2, "a": 3}',
            "[0.10, 1.0, 1e2, 1e-7, 1E5, 1e20, 1e15, 123456.5, 0.00012, 0.000012, -0, -0.0]",
            "[18446744073709551615, 18446744073709551616, -9223372036854775808]",
            '[123456789012345678901, 0.1234567890123456789, "é", "\\u2028", true, null]',
        )
    ),
    "TO_JSON_STRING(PARSE_JSON('[0.10, 1e-7, 12345678901234567000.0]'))",
    # Arrays and structs: each value by its type.
    "TO_JSON_STRING([1, 9007199254740992, 9007199254740993, NULL])",
    f"TO_JSON_STRING([1.0, 0.1, 1e15, 1e-7, {NAN}, -{INF}, {ZERO}])",
    "TO_JSON_STRING([NUMERIC '1.5', NUMERIC '2'])",
    "TO_JSON_STRING([FROM_BASE64('YWL/XA=='), b''])",
    "TO_JSON_STRING([TIMESTAMP '2020-01-01 00:00:00.5', TIMESTAMP '2020-01-01'])",
    "TO_JSON_STRING([DATETIME '2020-01-01 00:00:00.123456'])",
    "TO_JSON_STRING(STRUCT(2 AS b, 'x' AS a, [STRUCT(TIME '10:00:00.5' AS t)] AS c))",
    "TO_JSON_STRING(STRUCT(DATE '2020-01-01' AS d, true AS t, CAST(NULL AS STRING) AS n))",
    "TO_JSON_STRING(NUMERIC '1.5')",
    "TO_JSON_STRING(CAST(12345678901234 AS NUMERIC))",
    "TO_JSON_STRING(b'abc')",
)
REFUSED = ("1e400", "0.1234567890123456789", "123456789012345678901")


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_value_is_googlesqls(bq: bigquery.Client, expression: str) -> None:
    sql = f"SELECT {expression} AS found"
    assert [tuple(row) for row in run(bq, sql).result()] == evaluate(sql)


@pytest.mark.parametrize("text", REFUSED)
def test_a_number_that_no_float_holds_is_refused(bq: bigquery.Client, text: str) -> None:
    sql = f"SELECT TO_JSON_STRING(PARSE_JSON('{text}'))"
    with pytest.raises(Refusal):
        evaluate(sql)
    with pytest.raises(BadRequest, match="Invalid input to PARSE_JSON"):
        run(bq, sql)
    (row,) = run(bq, f"SELECT SAFE.PARSE_JSON('{text}') IS NULL AS x").result()
    assert row.x


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
