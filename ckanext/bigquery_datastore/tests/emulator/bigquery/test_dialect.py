"""BigQuery's SQL: texts of values, parameters, names of columns, SEARCH."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from google.cloud import bigquery

from ..conftest import run, value

TEXTS = {
    "CAST(1.0 AS STRING)": "1",
    "CAST(0.1 AS STRING)": "0.1",
    "CAST(1234567.0 AS STRING)": "1234567",
    "CAST(1e15 AS STRING)": "1e+15",
    "CAST(1e20 AS STRING)": "1e+20",
    "CAST(1e-7 AS STRING)": "1e-07",
    "CAST(-0.0 AS STRING)": "0",
    # 16 digits would do: https://github.com/google/googlesql, RoundTripDoubleToString
    "CAST(0.1234567890123456 AS STRING)": "0.12345678901234559",
    "CAST(1234567890123456.0 AS STRING)": "1234567890123456",
    "FORMAT('%.16g', 0.1234567890123456)": "0.1234567890123456",
    "FORMAT('%.15g', -0.0)": "0",
    "CAST(CAST('nan' AS FLOAT64) AS STRING)": "nan",
    "CAST(CAST('-inf' AS FLOAT64) AS STRING)": "-inf",
    "CAST(true AS STRING)": "true",
    "CAST(9007199254740993 AS STRING)": "9007199254740993",
    "CAST(TIMESTAMP '2014-11-10 13:12:06' AS STRING)": "2014-11-10 13:12:06+00",
    "CAST(TIMESTAMP '2014-11-10 13:12:06.5' AS STRING)": "2014-11-10 13:12:06.500+00",
    "CAST(TIMESTAMP '2014-11-10 13:12:06.1234' AS STRING)": "2014-11-10 13:12:06.123400+00",
    "CAST(DATETIME '2014-11-10 13:12:06' AS STRING)": "2014-11-10 13:12:06",
    "CAST(DATE '2014-11-10' AS STRING)": "2014-11-10",
    "CAST(TIME '13:12:06.25' AS STRING)": "13:12:06.250",
    "CAST(NUMERIC '1.500' AS STRING)": "1.5",
    "CAST(NUMERIC '10' AS STRING)": "10",
    "CAST(BIGNUMERIC '1.500' AS STRING)": "1.5",
    "CAST(b'abc' AS STRING)": "abc",
    "CAST(MAKE_INTERVAL(1, 2, 3) AS STRING)": "1-2 3 0:0:0",
    "CAST(RANGE(DATE '2020-01-01', NULL) AS STRING)": "[2020-01-01, UNBOUNDED)",
    "SAFE_CAST(1.0 AS STRING)": "1",
    "TO_BASE64(b'abc')": "YWJj",
    "ST_ASTEXT(ST_GEOGPOINT(1, 2))": "POINT(1 2)",
    "FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%E6S', TIMESTAMP '2014-11-10 13:12:06.5')": (
        "2014-11-10T13:12:06.500000"
    ),
    "FORMAT_TIMESTAMP('%FT%H:%M:%E*SZ', TIMESTAMP '2014-11-10 13:12:06.5')": (
        "2014-11-10T13:12:06.5Z"
    ),
    "FORMAT_DATETIME('%FT%H:%M:%E*S', DATETIME '2014-11-10 13:12:06')": "2014-11-10T13:12:06",
    "FORMAT('%d-%s', 5, 'a')": "5-a",
    "TO_JSON_STRING(STRUCT(1 AS a, 'x' AS b, true AS c, NULL AS d))": (
        '{"a":1,"b":"x","c":true,"d":null}'
    ),
    "TO_JSON_STRING([1, 2])": "[1,2]",
    "TO_JSON_STRING('a\"b')": '"a\\"b"',
    "TO_JSON_STRING(TIMESTAMP '2014-11-10 13:12:06')": '"2014-11-10T13:12:06Z"',
    "TO_JSON_STRING(PARSE_JSON('{\"a\": 1}'))": '{"a":1}',
    "TO_JSON_STRING(NUMERIC '1.5')": '"1.5"',
    "TO_JSON_STRING(CAST(NULL AS STRING))": "null",
    "NORMALIZE_AND_CASEFOLD('ÄB')": "äb",
    "LOWER('ÄB')": "äb",
    "JSON_VALUE('{\"a\": 5}', '$.a')": "5",
    "ARRAY_TO_STRING(['a', 'b'], ',')": "a,b",
}


@pytest.mark.parametrize("expression", TEXTS)
def test_a_text_is_bigquerys(bq: bigquery.Client, expression: str) -> None:
    assert value(bq, expression) == TEXTS[expression]


VALUES = {
    "SAFE_CAST('x' AS INT64)": None,
    "CAST(CAST(NULL AS INTERVAL) AS STRING)": None,
    "SAFE_CAST('12' AS INT64)": 12,
    "SAFE_CAST('2.5' AS INT64)": None,
    "SAFE_CAST('0x1F' AS INT64)": 31,
    "SAFE_CAST('9223372036854775808' AS INT64)": None,
    "CAST(2.5 AS INT64)": 3,
    "CAST(-0.5 AS INT64)": -1,
    "CAST(NUMERIC '2.5' AS INT64)": 3,
    "CAST(TRUE AS INT64)": 1,
    "SAFE_CAST('9223372036854775808' AS NUMERIC)": Decimal("9223372036854775808"),
    "SAFE_CAST('1.23456789' AS NUMERIC)": Decimal("1.23456789"),
    "SAFE_CAST('2020-01-01' AS DATE)": datetime.date(2020, 1, 1),
    "REGEXP_CONTAINS('Foo bar', r'(?i)FOO\\s')": True,
    "CONTAINS_SUBSTR('Foo bar', 'FOO')": True,
    "CONTAINS_SUBSTR(STRUCT('Foo' AS a, 12 AS b), '12')": True,
    "STARTS_WITH('abc', 'ab')": True,
    "SAFE_DIVIDE(1, 0)": None,
    "7 / 2": 3.5,
    "(SELECT COUNT(*) FROM UNNEST([1, 2, 3]) AS x WHERE x > 1)": 2,
    "CAST('1.5' AS NUMERIC)": Decimal("1.5"),
    "CAST('2014-11-10 13:12:06 UTC' AS TIMESTAMP)": datetime.datetime(
        2014, 11, 10, 13, 12, 6, tzinfo=datetime.timezone.utc
    ),
}


@pytest.mark.parametrize("expression", VALUES)
def test_a_value_is_bigquerys(bq: bigquery.Client, expression: str) -> None:
    assert value(bq, expression) == VALUES[expression]


def test_windows_and_qualify_and_order_with_nulls_last(bq: bigquery.Client) -> None:
    sql = (
        "WITH t AS (SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y' UNION ALL SELECT 3, NULL) "
        "SELECT a, ROW_NUMBER() OVER (ORDER BY a DESC) AS place, COUNT(*) OVER () AS n FROM t "
        "QUALIFY place <= 2 ORDER BY b NULLS LAST, a DESC"
    )
    assert [tuple(row) for row in run(bq, sql).result()] == [(2, 2, 3), (3, 1, 3)]


def test_columns_without_a_name_are_numbered(bq: bigquery.Client) -> None:
    rows = run(bq, "SELECT COUNT(*), MAX(x) AS m, x + 1, x FROM UNNEST([1]) AS x GROUP BY x")
    assert [field.name for field in rows.result().schema] == ["f0_", "m", "f1_", "x"]


def test_names_are_as_they_are_written(bq: bigquery.Client, dataset: str) -> None:
    run(bq, f"CREATE TABLE `local.{dataset}.t` AS SELECT 'a' AS `Street`, 1 AS n")
    source = f"(SELECT t.*, CONCAT(t.`Street`, 'x') AS m FROM `local.{dataset}.t` AS t)"
    sql = f"SELECT t.`Street` AS `Street`, t.n AS N FROM {source} AS t ORDER BY t.m"
    assert [field.name for field in run(bq, sql).result().schema] == ["Street", "N"]


SCALARS: list[tuple[str, Any]] = [
    ("STRING", 'it\'s @here, $y? "q" \\ ü'),
    ("STRING", ""),
    ("STRING", None),
    ("INT64", 9007199254740993),
    ("FLOAT64", 1.5),
    ("BOOL", False),
    ("BYTES", b"\x00\xff"),
    ("DATE", datetime.date(2020, 1, 2)),
    ("TIME", datetime.time(1, 2, 3, 4)),
    ("DATETIME", datetime.datetime(2020, 1, 2, 3, 4, 5)),
    ("TIMESTAMP", datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.timezone.utc)),
    ("NUMERIC", Decimal("1.5")),
    ("BIGNUMERIC", Decimal("1.5")),
]


@pytest.mark.parametrize(("kind", "given"), SCALARS)
def test_a_parameter_comes_back_as_it_was_given(bq: bigquery.Client, kind: str, given: Any) -> None:
    assert value(bq, "@p", bigquery.ScalarQueryParameter("p", kind, given)) == given


def test_arrays_and_structs_are_parameters_too(bq: bigquery.Client) -> None:
    array = bigquery.ArrayQueryParameter("a", "INT64", [1, 3])
    assert value(bq, "ARRAY(SELECT x FROM UNNEST([1,2,3]) AS x WHERE x IN UNNEST(@a))", array) == [
        1,
        3,
    ]
    rows = bigquery.ArrayQueryParameter(
        "rows",
        "STRUCT",
        [
            bigquery.StructQueryParameter(
                None,
                bigquery.ScalarQueryParameter("a", "INT64", number),
                bigquery.ScalarQueryParameter("b", "STRING", text),
            )
            for number, text in ((1, "x"), (2, None))
        ],
    )
    job = run(bq, "SELECT r.a, r.b FROM UNNEST(@rows) AS r ORDER BY 1", query_parameters=[rows])
    assert [tuple(row) for row in job.result()] == [(1, "x"), (2, None)]


def test_an_at_sign_in_a_text_is_no_parameter(bq: bigquery.Client) -> None:
    parameter = bigquery.ScalarQueryParameter("x", "STRING", "given")
    assert value(bq, "CONCAT('me@x', @x)", parameter) == "me@xgiven"


def test_rows_of_a_json_parameter_are_unnested(bq: bigquery.Client) -> None:
    parameter = bigquery.ScalarQueryParameter("rows", "STRING", '[{"a": 1}, {"a": "x"}]')
    sql = "SELECT JSON_VALUE(r, '$.a') AS a FROM UNNEST(JSON_QUERY_ARRAY(@rows)) AS r ORDER BY a"
    job = run(bq, sql, query_parameters=[parameter])
    assert [row.a for row in job.result()] == ["1", "x"]


SEARCHES = {
    "SEARCH(s, 'foo')": [1, 3],
    "SEARCH(s, 'FOO world')": [1],
    "SEARCH((a, b), 'baz')": [1],
    "SEARCH(a, 'foobar')": [2],
    "SEARCH(a, 'oba')": [],
    "SEARCH(s, '\"hello world\"')": [1],
    "SEARCH(s, '\"world hello\"')": [],
    "SEARCH(a, '`baz@x.org`')": [1],
    "SEARCH(s, 'foo', analyzer=>'NO_OP_ANALYZER')": [3],
    "SEARCH(b, @q)": [1],
    "CONTAINS_SUBSTR(s, 'oba')": [2],
}


@pytest.fixture(scope="module")
def searched(bq: bigquery.Client) -> str:
    bq.create_dataset("searched", exists_ok=True)
    run(
        bq,
        "CREATE OR REPLACE TABLE searched.s AS "
        "SELECT 1 AS _id, 'Foo-bar baz@x.org' AS a, 'Hello World' AS b "
        "UNION ALL SELECT 2, 'foobar', NULL UNION ALL SELECT 3, NULL, 'foo'",
    )
    return "searched.s"


@pytest.mark.parametrize("condition", SEARCHES)
def test_search_finds_whole_words_without_regard_to_case(
    bq: bigquery.Client, searched: str, condition: str
) -> None:
    parameter = bigquery.ScalarQueryParameter("q", "STRING", "hello")
    sql = f"SELECT _id FROM {searched} AS s WHERE {condition} ORDER BY _id"
    job = run(bq, sql, query_parameters=[parameter])
    assert [row[0] for row in job.result()] == SEARCHES[condition]


def test_each_half_of_an_escaped_pair_of_surrogates_is_decoded_alone(bq: bigquery.Client) -> None:
    texts = [r'["\ud83d\ude42"]', r'["\\ud83d \u00e9 \n"]', '["🙂"]']
    [(found,)] = bq.query_and_wait(
        "SELECT ARRAY(SELECT JSON_VALUE(r, '$[0]') FROM UNNEST(@rows) AS r)",
        job_config=bigquery.QueryJobConfig(
            query_parameters=[bigquery.ArrayQueryParameter("rows", "STRING", texts)]
        ),
    )
    assert found == ["\ufffd\ufffd", "\\ud83d é \n", "🙂"]
