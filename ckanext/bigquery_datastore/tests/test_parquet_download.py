"""One Parquet file through one redirect, whatever number of shards BigQuery writes."""

from __future__ import annotations

import datetime as dt
import json
import struct
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from ckan.tests import factories
from google.cloud import bigquery

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered"
)

ROWS = 20_000

# A column of each type that a Parquet file has of its own, some NULL.
COLUMNS = """
    n AS _id,
    IF(MOD(n, 7) = 0, NULL, CONCAT('name ', CAST(n AS STRING))) AS name,
    n * n AS square,
    n / 8 AS eighth,
    MOD(n, 2) = 0 AS even,
    DATE_ADD(DATE '2000-01-01', INTERVAL MOD(n, 9000) DAY) AS day,
    TIMESTAMP_ADD(TIMESTAMP '2000-01-01 00:00:00.000001+00', INTERVAL n SECOND) AS moment,
    CAST(n AS NUMERIC) / 100 AS price
"""


def in_shards(monkeypatch, count: int) -> None:
    """BigQuery writes so many from now on."""
    monkeypatch.setattr(config, "job_labels", lambda: {"emulator_shards": str(count)})


@pytest.fixture()
def place(monkeypatch) -> Place:
    in_shards(monkeypatch, 9)
    return Place(config.dataset(), config.export_bucket())


@pytest.fixture()
def table(place) -> str:
    resource_id = factories.Resource()["id"]
    place.bigquery.query(
        f"CREATE TABLE `{place.dataset}.{resource_id}` AS "
        f"SELECT {COLUMNS} FROM UNNEST(GENERATE_ARRAY(1, {ROWS})) AS n"
    ).result()
    return resource_id


def download(app, resource_id: str, folder: Path, query: str = "") -> Path:
    """The file behind one redirect."""
    answer = app.get(f"/datastore/dump/{resource_id}?format=parquet{query}", follow_redirects=False)
    assert answer.status_code == 302, answer.body
    file = folder / "table.parquet"
    with urllib.request.urlopen(answer.location) as response:
        assert response.headers["Content-Type"] == "application/vnd.apache.parquet"
        file.write_bytes(response.read())
    return file


# What is compared for each column: as many values, and the same sum of them.
SUMS = {
    "_id": "SUM(_id)",
    "name": "SUM(LENGTH(name))",
    "square": "SUM(square)",
    "eighth": "SUM(eighth)",
    "even": "COUNTIF(even)",
    "day": "SUM(UNIX_DATE(day))",
    "moment": "SUM(UNIX_MICROS(moment) - 946684800000000)",
    "price": "SUM(price)",
}


def test_500_shards_are_one_file_with_the_tables_rows_for_three_readers(
    app, place, table, tmp_path, monkeypatch
):
    in_shards(monkeypatch, 500)
    file = download(app, table, tmp_path)
    sums = ", ".join(f"COUNT({name}), {sql}" for name, sql in SUMS.items())
    (wanted,) = place.bigquery.query(f"SELECT {sums} FROM `{place.dataset}.{table}`").result()
    wanted = list(wanted.values())
    assert pq.ParquetFile(file).num_row_groups == 500
    assert pyarrow_sums(file) == wanted
    assert duckdb_sums(file) == wanted
    assert polars_sums(file) == wanted


def pyarrow_sums(file: Path) -> list[Any]:
    found = pq.read_table(file)
    assert found.num_rows == ROWS
    micros = found["moment"].cast(pa.int64())
    numbers = {
        "name": pc.utf8_length(found["name"]),
        "even": found["even"].cast(pa.int64()),
        "day": found["day"].cast(pa.int32()),
        "moment": pc.subtract(micros, 946684800000000),
    }
    result = []
    for name in SUMS:
        result += [ROWS - found[name].null_count, pc.sum(numbers.get(name, found[name])).as_py()]
    return result


def duckdb_sums(file: Path) -> list[Any]:
    sums = {
        "even": "COUNT_IF(even)",
        "day": "SUM(day - DATE '1970-01-01')",
        "moment": "SUM(epoch_us(moment) - 946684800000000)",
    }
    sql = ", ".join(f"COUNT({name}), {sums.get(name, SUMS[name])}" for name in SUMS)
    row = duckdb.sql(f"SELECT {sql} FROM '{file}'").fetchone()
    assert row is not None
    return list(row)


def polars_sums(file: Path) -> list[Any]:
    found = polars.read_parquet(file)
    numbers = {
        "name": found["name"].str.len_chars(),
        "day": found["day"].cast(polars.Int64),
        "moment": found["moment"].dt.timestamp("us") - 946684800000000,
    }
    result = []
    for name in SUMS:
        result += [ROWS - found[name].null_count(), numbers.get(name, found[name]).sum()]
    return result


def test_a_filter_is_pushed_down_to_the_row_groups_that_have_it(app, table, tmp_path):
    file = download(app, table, tmp_path)
    found = pq.read_table(file, filters=[("_id", ">", 19_990)])
    assert found["_id"].to_pylist() == list(range(19_991, 20_001))
    statistics = [
        pq.ParquetFile(file).metadata.row_group(group).column(0).statistics.max
        for group in range(9)
    ]
    assert statistics == sorted(statistics) and statistics[-1] == ROWS


def test_parameters_of_the_dump_hold_for_parquet(app, table, tmp_path):
    file = download(
        app, table, tmp_path, '&filters={"even":true}&fields=square,_id&sort=_id desc&limit=3'
    )
    found = pq.read_table(file)
    assert found.column_names == ["square", "_id"]
    assert found["_id"].to_pylist() == [20_000, 19_998, 19_996]


def test_moments_have_their_zone_and_numbers_their_decimals(app, table, tmp_path):
    found = pq.read_table(download(app, table, tmp_path))
    assert found.schema.field("moment").type == pa.timestamp("us", tz="UTC")
    assert pa.types.is_decimal(found.schema.field("price").type)
    first = found.slice(0, 1).to_pylist()[0]
    assert first["moment"] == dt.datetime(2000, 1, 1, 0, 0, 1, 1, tzinfo=dt.timezone.utc)
    assert first["price"] == Decimal("0.01")


def test_the_data_dictionary_is_in_the_file(app, table, tmp_path):
    metadata = pq.read_metadata(download(app, table, tmp_path)).metadata
    told = json.loads(metadata[b"ckan"])
    assert told["resource_id"] == table
    assert told["fields"][:2] == [{"id": "_id", "type": "int"}, {"id": "name", "type": "text"}]


def test_types_that_parquet_has_not_are_text_and_nested_ones_stay(app, place, tmp_path):
    resource_id = factories.Resource()["id"]
    place.bigquery.query(
        f"""CREATE TABLE `{place.dataset}.{resource_id}` AS SELECT
        PARSE_JSON('{{"a":1}}') AS document,
        ST_GEOGPOINT(1, 2) AS point,
        b'bytes' AS raw,
        ['x', 'y'] AS list,
        STRUCT(1 AS a, 'b' AS b) AS pair"""
    ).result()
    file = download(app, resource_id, tmp_path)
    assert pq.read_table(file).to_pylist() == [
        {
            "document": '{"a":1}',
            # GeoParquet: well-known binary.
            "point": b"\x01\x01\x00\x00\x00" + struct.pack("<2d", 1, 2),
            "raw": b"bytes",
            "list": ["x", "y"],
            "pair": {"a": 1, "b": "b"},
        }
    ]
    row = duckdb.sql(f"SELECT document, pair.b FROM '{file}'").fetchone()
    assert row == ('{"a":1}', "b")
    assert polars.read_parquet(file)["list"].to_list() == [["x", "y"]]


def test_a_number_of_77_digits_is_text_as_few_readers_know_such_decimals(app, place, tmp_path):
    resource_id = factories.Resource()["id"]
    name = f"{place.bigquery.project}.{place.dataset}.{resource_id}"
    place.bigquery.create_table(
        bigquery.Table(name, schema=[bigquery.SchemaField("big", "BIGNUMERIC")])
    )
    place.bigquery.query(f"INSERT `{name}` (big) VALUES (BIGNUMERIC '1.5'), (NULL)").result()
    found = pq.read_table(download(app, resource_id, tmp_path))
    assert sorted(found["big"].to_pylist(), key=str) == ["1.5", None]
