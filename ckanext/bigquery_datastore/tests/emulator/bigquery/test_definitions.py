"""CREATE TABLE … AS SELECT: rows, columns and what is said of them, in one step or not at all."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import BadRequest, Conflict
from google.cloud import bigquery

from ..conftest import run

TEXT = "Notes with 'quotes', a line\n\nand `ticks`"


def text(name: str, value: str) -> bigquery.ScalarQueryParameter:
    return bigquery.ScalarQueryParameter(name, "STRING", value)


def test_columns_and_table_have_their_descriptions_from_parameters(
    bq: bigquery.Client, dataset: str
) -> None:
    run(
        bq,
        f"CREATE OR REPLACE TABLE `local.{dataset}.t` "
        "(`a b` INT64 OPTIONS(description=@a), c STRING, d NUMERIC) CLUSTER BY c, `a b` "
        "OPTIONS(description=@t, labels=[(@k, @v)]) AS SELECT 1, 'x', NUMERIC '1.5'",
        query_parameters=[text("a", TEXT), text("t", "a table"), text("k", "team"), text("v", "x")],
    )
    table = bq.get_table(f"local.{dataset}.t")
    assert [(f.name, f.field_type, f.description) for f in table.schema] == [
        ("a b", "INTEGER", TEXT),
        ("c", "STRING", None),
        ("d", "NUMERIC", None),
    ]
    assert (table.description, table.labels) == ("a table", {"team": "x"})
    assert (table.clustering_fields, table.num_rows) == (["c", "a b"], 1)


def test_a_replaced_table_says_nothing_of_what_it_was(bq: bigquery.Client, dataset: str) -> None:
    name = f"local.{dataset}.t"
    run(bq, f"CREATE TABLE `{name}` (a INT64 OPTIONS(description='old')) AS SELECT 1")
    before = bq.get_table(name)
    run(bq, f"CREATE OR REPLACE TABLE `{name}` (a STRING, b INT64) AS SELECT 'x', 2")
    after = bq.get_table(name)
    assert [(f.name, f.field_type, f.description) for f in after.schema] == [
        ("a", "STRING", None),
        ("b", "INTEGER", None),
    ]
    assert before.modified < after.modified
    assert [tuple(row) for row in bq.list_rows(name)] == [("x", 2)]


def test_rows_that_do_not_fit_leave_the_table_as_it_was(bq: bigquery.Client, dataset: str) -> None:
    name = f"local.{dataset}.t"
    run(bq, f"CREATE TABLE `{name}` (a INT64) AS SELECT 1")
    with pytest.raises(BadRequest):
        run(bq, f"CREATE OR REPLACE TABLE `{name}` (a INT64) AS SELECT CAST('x' AS INT64)")
    assert [tuple(row) for row in bq.list_rows(name)] == [(1,)]


def test_only_or_replace_replaces(bq: bigquery.Client, dataset: str) -> None:
    sql = f"CREATE TABLE `local.{dataset}.t` (a INT64) AS SELECT 1"
    run(bq, sql)
    with pytest.raises(Conflict):
        run(bq, sql)


def test_a_table_is_replaced_by_one_that_is_clustered_alike(
    bq: bigquery.Client, dataset: str
) -> None:
    """https://github.com/airbytehq/airbyte/issues/26215"""
    name = f"local.{dataset}.t"
    sql = f"CREATE OR REPLACE TABLE `{name}` (a INT64, b INT64) CLUSTER BY %s AS SELECT 1, 2"
    run(bq, sql % "a")
    with pytest.raises(BadRequest, match="existing spec is clustering"):
        run(bq, sql % "b")
    table = bq.get_table(name)
    table.clustering_fields = ["b"]
    bq.update_table(table, ["clustering_fields"])
    run(bq, sql % "b")
    assert bq.get_table(name).clustering_fields == ["b"]


def test_a_column_that_rows_are_clustered_by_is_not_dropped(
    bq: bigquery.Client, dataset: str
) -> None:
    """https://cloud.google.com/bigquery/docs/managing-table-schemas#delete_a_column"""
    name = f"local.{dataset}.t"
    run(bq, f"CREATE OR REPLACE TABLE `{name}` (a INT64, b INT64) CLUSTER BY a AS SELECT 1, 2")
    drop = f"ALTER TABLE `{name}` DROP COLUMN b, DROP COLUMN a"
    with pytest.raises(BadRequest, match="clustered by a"):
        run(bq, drop)
    assert [field.name for field in bq.get_table(name).schema] == ["a", "b"]
    run(bq, f"ALTER TABLE `{name}` DROP COLUMN b")
    assert [field.name for field in bq.get_table(name).schema] == ["a"]
