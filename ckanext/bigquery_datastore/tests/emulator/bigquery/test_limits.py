"""What is too large for BigQuery is too large here (https://cloud.google.com/bigquery/quotas)."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import BadRequest
from google.cloud import bigquery

from ..conftest import run


def test_the_text_of_a_query_is_bounded(bq: bigquery.Client) -> None:
    fits = "SELECT 1" + " " * (1024 * 1024 - 8)
    run(bq, fits)
    with pytest.raises(BadRequest, match=r"maximum standard SQL query length is 1024\.00K"):
        run(bq, fits + " ")
    with pytest.raises(BadRequest, match=r"maximum standard SQL query length is 1024\.00K"):
        run(bq, fits + " ", dry_run=True)


def test_so_are_its_parameters_of_which_a_list_is_one(bq: bigquery.Client) -> None:
    many = [bigquery.ScalarQueryParameter(f"p{n}", "INT64", n) for n in range(10_001)]
    with pytest.raises(BadRequest, match="query parameters"):
        run(bq, "SELECT @p1", query_parameters=many)
    one = bigquery.ArrayQueryParameter("p", "INT64", list(range(100_000)))
    job = run(bq, "SELECT COUNT(*) AS n FROM UNNEST(@p)", query_parameters=[one])
    assert [row.n for row in job.result()] == [100_000]


def test_so_is_the_request(bq: bigquery.Client) -> None:
    large = bigquery.ScalarQueryParameter("p", "STRING", "x" * 10 * 1024 * 1024)
    with pytest.raises(BadRequest, match="Request payload size exceeds the limit"):
        run(bq, "SELECT LENGTH(@p)", query_parameters=[large])
