"""Bytes: counted, limited, and known before a query runs (facts, sections 2 and 3)."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from ..conftest import run

MEGABYTE = 1024 * 1024


@pytest.fixture
def table(bq: bigquery.Client, dataset: str) -> str:
    run(bq, f"CREATE TABLE `{dataset}.t` AS SELECT x, 'abc' AS s FROM UNNEST([1, 2, 3, 4]) AS x")
    return f"`local.{dataset}.t`"


def test_a_query_counts_its_tables_and_bills_ten_megabytes_at_least(
    bq: bigquery.Client, table: str
) -> None:
    job = run(bq, f"SELECT x FROM {table}")
    assert job.total_bytes_processed == 4 * (8 + 5)
    assert job.total_bytes_billed == 10 * MEGABYTE
    assert run(bq, "SELECT 1").total_bytes_billed == 0


def test_a_dry_run_tells_bytes_and_schema_and_runs_nothing(bq: bigquery.Client, table: str) -> None:
    config = bigquery.QueryJobConfig(dry_run=True)
    job = bq.query(f"SELECT x, s AS t FROM {table}", job_config=config)
    assert (job.state, job.total_bytes_processed) == ("DONE", 52)
    assert [(field.name, field.field_type) for field in job.schema] == [
        ("x", "INTEGER"),
        ("t", "STRING"),
    ]
    bq.query(f"DELETE FROM {table} WHERE TRUE", job_config=config)
    assert next(iter(bq.query_and_wait(f"SELECT COUNT(*) FROM {table}")))[0] == 4


def test_a_query_over_its_byte_limit_is_refused(bq: bigquery.Client, table: str) -> None:
    with pytest.raises(GoogleAPICallError) as caught:
        run(bq, f"SELECT x FROM {table}", maximum_bytes_billed=MEGABYTE)
    assert (
        "Query exceeded limit for bytes billed: 1048576. 10485760 or higher required."
        in caught.value.message
    )
    assert caught.value.errors[0]["reason"] == "bytesBilledLimitExceeded"
    run(bq, f"SELECT x FROM {table}", maximum_bytes_billed=10 * MEGABYTE)


def test_an_export_over_its_byte_limit_writes_nothing(
    bq: bigquery.Client, table: str, bucket: object, fresh: str
) -> None:
    sql = f"EXPORT DATA OPTIONS(uri='gs://exports/{fresh}/*.csv', format='CSV') AS SELECT * FROM "
    with pytest.raises(GoogleAPICallError, match="Query exceeded limit"):
        run(bq, sql + table, maximum_bytes_billed=1)
    assert list(bucket.list_blobs(prefix=fresh)) == []  # type: ignore[attr-defined]
