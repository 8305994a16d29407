"""A search through all columns of a wide table is one flat expression that GoogleSQL accepts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.cloud import bigquery

from ckanext.bigquery_datastore.backend.search.build import build
from ckanext.bigquery_datastore.backend.table import lookup

from ..conftest import Emulator, run

COLUMNS = 300


@pytest.fixture(autouse=True)
def asked(emulator: Emulator) -> Iterator[None]:
    emulator.admin("PUT", "switches", {"googlesql": True})
    yield
    emulator.admin("PUT", "switches", {"googlesql": False})


def found(bq: bigquery.Client, name: str, q: str) -> list[int]:
    select = build(lookup.from_api(bq.get_table(name)), {"q": q, "fields": "_id", "sort": "_id"})
    given = [bigquery.ScalarQueryParameter(p.name, p.type, p.value) for p in select.parameters]
    return [row[0] for row in run(bq, select.sql(), query_parameters=given).result()]


def test_three_hundred_columns_of_text_are_searched(bq: bigquery.Client, dataset: str) -> None:
    name = f"local.{dataset}.t"
    columns = ", ".join(f"`column {n}` STRING" for n in range(COLUMNS))
    run(bq, f"CREATE TABLE `{name}` (_id INT64, {columns})")
    run(
        bq,
        f"INSERT `{name}` (_id, `column 7`, `column 299`) "
        "VALUES (1, 'alpha', 'beta'), (2, 'alphabeta', NULL), (3, NULL, 'Beta')",
    )
    assert found(bq, name, "beta") == [1, 3]
    assert found(bq, name, "alpha beta") == [1]


def test_floats_are_found_by_the_text_that_postgresql_has(
    bq: bigquery.Client, dataset: str
) -> None:
    name = f"local.{dataset}.f"
    run(bq, f"CREATE TABLE `{name}` (_id INT64, f FLOAT64, s STRING)")
    run(
        bq,
        f"INSERT `{name}` (_id, f, s) SELECT n, CAST(x AS FLOAT64), 'x' FROM "
        "UNNEST(['inf', '-inf', 'nan', '0.1234567890123456', '2.5', NULL]) AS x WITH OFFSET AS n",
    )
    assert found(bq, name, "infinity") == [0, 1]
    assert found(bq, name, "NaN") == [2]
    assert found(bq, name, "0.1234567890123456") == [3]
