"""Rows come in no order where none is asked for, and in the same one on each page of a result."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest
from google.cloud import bigquery, storage

from ckanext.bigquery_datastore.emulator.bigquery.disorder import is_ordered, shuffled

from ..conftest import run

NUMBERS = "SELECT n FROM UNNEST(GENERATE_ARRAY(1, {})) AS n"
ORDERED = {
    "SELECT 1 ORDER BY 1": True,
    "WITH a AS (SELECT 1 AS x) SELECT x FROM a ORDER BY x LIMIT 5": True,
    "SELECT 1 AS x UNION ALL SELECT 2 ORDER BY x": True,
    "(SELECT 1 AS x ORDER BY x)": True,
    "FROM a |> ORDER BY x": True,
    "SELECT x FROM (SELECT 1 AS x ORDER BY x)": False,
    "WITH a AS (SELECT 1 AS x ORDER BY x) SELECT x FROM a": False,
    "SELECT ROW_NUMBER() OVER (ORDER BY x) FROM a": False,
    "SELECT ARRAY_AGG(x ORDER BY x) FROM a": False,
    "SELECT ' ORDER BY '": False,
}


@pytest.mark.parametrize("sql", ORDERED)
def test_only_an_order_of_the_whole_result_counts(sql: str) -> None:
    assert is_ordered(sql) is ORDERED[sql]


@pytest.mark.parametrize("count", [2, 3, 2_000, 2_001, 100_000])
def test_no_result_keeps_its_order_and_none_loses_a_row(count: int) -> None:
    rows = pa.table({"n": range(count)})
    for seed in "abcd":
        found = shuffled(rows, seed)["n"].to_pylist()
        assert found != list(range(count)) and sorted(found) == list(range(count))
        assert found == shuffled(rows, seed)["n"].to_pylist()


def test_a_large_result_is_shuffled_at_once() -> None:
    rows = pa.table({f"c{n}": range(1_000_000) for n in range(10)})
    began = time.process_time()
    each_by_itself = rows.take(pa.array(range(999_999, -1, -1)))
    between = time.process_time()
    assert shuffled(rows, "a").num_rows == each_by_itself.num_rows
    assert time.process_time() - between < between - began


def test_the_pages_of_a_result_are_one_order(bq: bigquery.Client) -> None:
    job = run(bq, NUMBERS.format(1000))
    found = [row.n for row in job.result(page_size=70)]
    assert sorted(found) == list(range(1, 1001)) != found
    assert [row.n for row in job.result(page_size=900)] == found
    ordered = run(bq, f"{NUMBERS.format(1000)} ORDER BY n")
    assert [row.n for row in ordered.result(page_size=70)] == list(range(1, 1001))


@pytest.mark.parametrize("count", [1_000, 12_000])
def test_a_table_is_listed_in_one_order_which_is_not_the_stored_one(
    bq: bigquery.Client, dataset: str, count: int
) -> None:
    run(bq, f"CREATE TABLE {dataset}.t AS {NUMBERS.format(count)}")
    found = [row.n for row in bq.list_rows(f"local.{dataset}.t", page_size=700)]
    assert sorted(found) == list(range(1, count + 1)) != found
    again = bq.list_rows(f"local.{dataset}.t", page_size=5_000, start_index=300, max_results=9)
    assert [row.n for row in again] == found[300:309]


def test_a_view_is_not_listed(bq: bigquery.Client, dataset: str) -> None:
    run(bq, f"CREATE VIEW {dataset}.v AS SELECT 1 AS n")
    fields = [bigquery.SchemaField("n", "INT64")]
    with pytest.raises(BadRequest, match="Cannot list a table of type VIEW"):
        list(bq.list_rows(f"local.{dataset}.v", selected_fields=fields))


@pytest.mark.parametrize("order", ["", " ORDER BY n"])
def test_an_export_is_sorted_only_where_it_says_so(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str, order: str
) -> None:
    uri = f"gs://{bucket.name}/{fresh}/*.csv"
    run(bq, f"EXPORT DATA OPTIONS (uri='{uri}', format='CSV') AS {NUMBERS.format(500)}{order}")
    (blob,) = bucket.list_blobs(prefix=fresh)
    found = [int(line) for line in blob.download_as_text().split()]
    assert sorted(found) == list(range(1, 501))
    assert (found == sorted(found)) is bool(order)
