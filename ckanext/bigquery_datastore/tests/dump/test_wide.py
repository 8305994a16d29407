"""A table of very many columns is exported within BigQuery's bound of SQL, and as any other."""

from __future__ import annotations

import random
import struct

import pytest

from ckanext.bigquery_datastore.backend.search.build import build
from ckanext.bigquery_datastore.backend.table import naming, types
from ckanext.bigquery_datastore.backend.table.model import Column, Table
from ckanext.bigquery_datastore.dump import wide
from ckanext.bigquery_datastore.dump.formats import FORMATS, STORED
from ckanext.bigquery_datastore.tests.dump.exporting import Place, a_place

# https://cloud.google.com/bigquery/quotas#query_jobs: unresolved.
MOST_CHARACTERS = 1024 * 1024


def table(count: int, kind: str = "float8") -> Table:
    named = [f"measurement no {number}" for number in range(count)]
    columns = [Column(name, naming.of_name(kind), name) for name in named]
    return Table("p", "d", "t", (Column("_id", types.TYPES["int8"], "_id"), *columns))


@pytest.mark.parametrize("kind", ["float8", "float4", "numeric", "text", "json", "timestamptz"])
@pytest.mark.parametrize("name", ["csv", "tsv", "ndjson", "parquet", "rows"])
@pytest.mark.parametrize("params", [{}, {"distinct": True}, {"q": "x"}], ids=str)
def test_the_statement_of_2000_columns_is_short_enough(kind: str, name: str, params: dict) -> None:
    known = {**FORMATS, **STORED}[name]
    sql = wide.sql_of(build(table(2_000, kind), params), lambda c, sql: known.cast(c, sql, True))
    assert len(sql) < MOST_CHARACTERS


def test_few_columns_are_cast_one_by_one() -> None:
    sql = wide.sql_of(build(table(3), {}), lambda c, sql: FORMATS["csv"].cast(c, sql, True))
    assert "ARRAY(" not in sql


@pytest.fixture(scope="module")
def place():
    name = random.randbytes(6).hex()
    with a_place(f"wide_{name}", f"wide-{name}") as found:
        yield found


@pytest.mark.parametrize("params", [{}, {"distinct": True, "sort": "_id"}], ids=str)
def test_the_file_is_the_same_either_way(place: Place, monkeypatch, params: dict) -> None:
    chance = random.Random(7)
    doubles = [
        struct.unpack("d", struct.pack("Q", chance.randrange(0x7FE << 52)))[0] for _ in range(60)
    ]
    doubles += [0.1, -0.0, 1e15, 1e22, 5e-324, 2.0**53]
    rows = [
        {f"c{n}": chance.choice(doubles) for n in range(6) if (n + row) % 5} for row in range(20)
    ]
    fields = {f"c{n}": "FLOAT64" for n in range(6)} | {"s": "STRING"}
    place.fill("t", rows, **fields)
    for format_name in ("csv", "json"):
        one_by_one = place.file("t", format_name, **params)
        with monkeypatch.context() as patch:
            patch.setattr(wide, "CHARACTERS", 0)
            plan = place.plan("t", format_name, **params)
            assert "ARRAY(" in plan.select_sql()
            assert place.file("t", format_name, **params) == one_by_one
